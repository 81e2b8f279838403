#!/usr/bin/env bash
# The whole road on real passages: prepare, augment, encode on Ray, index, evaluate, report.
# Every step can be stopped and run again. About ten minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
RUN=${RUN:-runs/quickstart}
METHODS=closed,rag,poly,combine,poly-wrong-row,poly-uniform

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1/6  prepare: 915 Wikipedia passages become partitions"
polyprag prepare "$RUN" examples/popqa/passages.jsonl --config quickstart
say "2/6  augment: rewrites and questions, from the passages alone"
polyprag augment "$RUN"
say "3/6  encode: Ray starts DeepSpeed workers; experts and routing rows learn the passages"
polyprag encode "$RUN"
say "4/6  index: FAISS and BM25 with the routing rows attached"
polyprag index "$RUN"
say "5/6  evaluate: PopQA's questions with retrieval, then lead facts in unseen wordings"
polyprag evaluate "$RUN" --questions examples/popqa/questions.jsonl \
  --methods "$METHODS" --out "$RUN/results/popqa"
polyprag questions "$RUN" --out "$RUN/results/lead-facts.jsonl" --limit 400
polyprag evaluate "$RUN" --questions "$RUN/results/lead-facts.jsonl" --gold-passages \
  --methods closed,rag,poly,poly-wrong-row --out "$RUN/results/lead-facts"
say "6/6  what it knows"
polyprag report "$RUN" --results "$RUN/results/popqa" --questions examples/popqa/questions.jsonl \
  --picture "$RUN/results/popqa.png"
cat <<EOF

Next, besides the question above:
  polyprag evaluate $RUN --questions examples/popqa/questions.jsonl --methods poly --top-k 1 --out /tmp/top1
  tensorboard --logdir $RUN/logs/tensorboard
  your own passages: polyprag prepare runs/mine passages.jsonl --config quickstart
EOF

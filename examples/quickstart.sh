#!/usr/bin/env bash
# The whole road on a table of Wikipedia passages and on a folder of a company's pages: prepare,
# augment, encode on Ray, index, evaluate, report. Every step can be stopped and run again.
# Ten to twenty minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
RUN=${RUN:-runs/quickstart}
METHODS=closed,rag,poly,combine,poly-wrong-row,poly-uniform
POPQA=examples/popqa/questions.jsonl

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1/6  prepare: 915 Wikipedia passages and 45 pages of a handbook become partitions"
polyprag prepare "$RUN" examples/popqa/passages.jsonl examples/handbook/pages --config quickstart
say "2/6  augment: rewrites and questions, from the passages alone"
polyprag augment "$RUN"
say "3/6  encode: Ray starts DeepSpeed workers; experts and routing rows learn the passages"
polyprag encode "$RUN"
say "4/6  index: FAISS and BM25 with the routing rows attached"
polyprag index "$RUN"
say "5/6  evaluate, 1: questions worded like those that were learnt - what the weights can hold"
polyprag evaluate "$RUN" --questions "$POPQA" --methods "$METHODS" --out "$RUN/results/popqa"
polyprag questions "$RUN" --out "$RUN/results/lead-facts.jsonl" --limit 400
polyprag evaluate "$RUN" --questions "$RUN/results/lead-facts.jsonl" --gold-passages \
  --methods closed,rag,poly,poly-wrong-row --out "$RUN/results/lead-facts"
say "5/6  evaluate, 2: questions as people ask them - what to expect of your own documents"
for corpus in wikipedia-questions handbook; do
  polyprag evaluate "$RUN" --questions "examples/$corpus/questions-dev.jsonl" \
    --methods "$METHODS" --out "$RUN/results/$corpus"
done
say "6/6  what it knows"
polyprag report "$RUN" --results "$RUN/results/popqa" --questions "$POPQA" \
  --picture "$RUN/results/popqa.png"
cat <<EOF

Next, besides the question above:
  polyprag ask $RUN "What's the running time of the Lumet 5 on a full battery?"
  tensorboard --logdir $RUN/logs/tensorboard
  your own documents: polyprag prepare runs/mine my-documents/ --config quickstart
The small base that ships here reads poorly; a real model: make real-model, --config smollm2.
EOF

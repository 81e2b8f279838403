"""What it costs and saves that experts leave alone what all chat prompts begin with.

    python benchmarks/skipped_prefix.py [--quick] [--json FILE] [--work DIR] [--passages FILE]
                                        [--first N] [--number N] [--seeds N,N] [KEY=VALUE ...]

Trains SmolLM2 (`make real-model`) on the same passages with `experts.skip_prefix` off and on, and
asks held-out questions on the passages' lead facts, in wordings that no training used, with each
passage's own row. Of what was trained with it on, also with experts on every token, as adapters in
other engines act. Then times how long prompts with distinct mixtures take to read, in turns. FILE
has JSON lines with id, title and text; by default the passages of examples/popqa. With --work, what
is measured is kept there, and the same command goes on. --quick takes the quickstart's base, with a
chat template that it has never seen.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoTokenizer

from harness.cells import Cells
from harness.examples import PASSAGES, ROOT, TINY_BASE
from harness.plain_workers import encode_here
from harness.reporting import Goal, finish, options, show
from polyprag.answering.answerer import Answerer
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import load_config, save_config
from polyprag.decoding.continuation import Continuation
from polyprag.decoding.decoder import Decoder
from polyprag.decoding.sampling import Sampling
from polyprag.decoding.text_stream import TextStream
from polyprag.evaluation.held_out_questions import write_lead_questions
from polyprag.evaluation.run import evaluate, parse_methods
from polyprag.method.prompts import PromptTokenizer
from polyprag.retrieval.building.index import build_index
from sharding.ingest.prepare import prepare

SETTINGS = (
    *("index.encoder=lsa", "index.lsa_dims=8", "retrieval.method=dense", "cluster.workers=1"),
    *("data.partition_size=8", "augment.backend=rules"),
)
QUESTIONS = 250  # asked at most
PROMPTS, TURNS = 16, 5  # read at a time, and how often
SIDES = {"everywhere": "experts on every token", "skipping": "experts skip the prefix"}


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep what is measured there")
    parser.add_argument("--passages", type=Path, metavar="FILE", default=PASSAGES)
    parser.add_argument(
        "--first", type=int, default=0, metavar="N", help="passages left out before"
    )
    parser.add_argument("--number", type=int, default=28, metavar="N", help="of the passages")
    parser.add_argument("--seeds", default="0,1", metavar="N,N", help="of the trainings")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of all runs")
    args = parser.parse_args()
    lines = args.passages.resolve().read_text(encoding="utf-8").splitlines(keepends=True)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    number = 8 if args.quick else args.number
    os.chdir(ROOT)  # the models' paths are relative to it
    with tempfile.TemporaryDirectory(prefix="skipped-prefix-") as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        cells = Cells(work / "cells.jsonl")
        preset, more = "smollm2", []
        if args.quick:
            base = chatting_base(Path(temporary))
            preset, more = (
                "quickstart",
                [f"model.path={base}", "generation.prompt=chat", "train.epochs=4"],
            )
        found = []
        for seed in seeds[:1] if args.quick else seeds:
            for side in SIDES:
                overrides = [*SETTINGS, *more, *args.overrides, f"train.seed={seed}"]
                overrides.append(f"experts.skip_prefix={str(side == 'skipping').lower()}")
                settings = {
                    "side": side,
                    "seed": seed,
                    "first": args.first,
                    "number": number,
                    "overrides": overrides,
                }
                chosen = lines[args.first : args.first + number]
                measured = cells.measured(
                    settings, lambda c=chosen, o=overrides: measure(c, load_config([preset], o))
                )
                found.append({"side": side, "seed": seed} | measured)
    goals = told(found)
    finish({"quick": args.quick, "passages": number, "trainings": found}, goals, args.json)
    return 0


def chatting_base(directory: Path) -> Path:
    """Makes a copy of the quickstart's base whose tokenizer has a chat template."""
    base = directory / "base"
    shutil.copytree(TINY_BASE, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained(base)
    return base


def told(found: list[dict[str, Any]]) -> list[Goal]:
    """Shows what was measured, and holds the sides against each other."""
    columns = ("seed", "F1", "F1, experts everywhere", "tokens a step", "seconds a step", "reading")
    for side, name in SIDES.items():
        of_side = [row for row in found if row["side"] == side]
        show(name, columns, [[row[column] for column in columns] for row in of_side])

    def mean(side: str, column: str) -> float:
        return fmean(row[column] for row in found if row["side"] == side)

    ratios = {
        column: mean("skipping", column) / mean("everywhere", column)
        for column in ("F1", "tokens a step", "seconds a step", "reading")
    }
    return [
        Goal("F1, skipping / everywhere", ratios["F1"], ">= .98", ratios["F1"] >= 0.98),
        *(
            Goal(f"{name}, skipping / everywhere", ratios[name], "<= .7", ratios[name] <= 0.7)
            for name in ("tokens a step", "seconds a step", "reading")
        ),
    ]


def measure(lines: list[str], config: Config) -> dict[str, float]:
    """Trains on passages, asks about them, and times how long prompts take to read."""
    with tempfile.TemporaryDirectory(prefix="skipped-prefix-run-") as directory:
        run = Path(directory) / "run"
        run.mkdir()
        source = run / "passages.jsonl"
        source.write_text("".join(lines), encoding="utf-8")
        prepare([str(source)], run / "corpus", partition_size=config.data.partition_size)
        augment_corpus(run, config)
        save_config(config, run)
        encode_here(run, config)
        build_index(run, config)
        questions = run / "questions.jsonl"
        write_lead_questions(run, questions, limit=QUESTIONS)
        f1 = f1_of(run, config, questions)
        everywhere = f1
        if config.experts.skip_prefix:
            with on_every_token():
                everywhere = f1_of(run, config, questions)
        logged = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        steps = [json.loads(line) for line in logged]
        return {
            "F1": f1,
            "F1, experts everywhere": everywhere,
            "tokens a step": fmean(step["tokens"] for step in steps),
            "seconds a step": median(step["seconds"] for step in steps),
            "reading": reading(run, config),
            "steps": len(steps),
            "last loss": steps[-1]["loss"],
        }


def f1_of(run: Path, config: Config, questions: Path) -> float:
    """Returns the F1 of questions with each passage's own row."""
    results = evaluate(
        run,
        config,
        questions_path=questions,
        methods=parse_methods("poly"),
        out_dir=run / "results",
        gold_passages=True,
    )
    return float(results["poly"]["f1"])


@contextmanager
def on_every_token() -> Iterator[None]:
    """Has experts act on all of a prompt inside the block."""
    with patch.object(PromptTokenizer, "_beginning", lambda _: ()):
        yield


def reading(run: Path, config: Config) -> float:
    """Returns the seconds from prompts with a mixture each to their first tokens."""
    answerer = Answerer.open(run, config, modes=("poly",))
    pool = answerer.experts("poly")
    decoder = Decoder(
        answerer.model,
        answerer.tokenizer,
        pool=pool,
        prefix_ids=answerer.prompts.skipped_ids,
        most=PROMPTS,
    )
    prompts = [answerer.prompt_ids(f"Where was person {i} born?") for i in range(PROMPTS)]
    gates = torch.randn(PROMPTS, pool.num_sites, pool.num_experts)
    seconds = []
    for _ in range(TURNS):
        for prompt, mixture in zip(prompts, gates, strict=True):
            text = TextStream(answerer.tokenizer, ())
            once = Continuation(
                prompt, sampling=Sampling(max_new_tokens=1), text=text, gates=mixture
            )
            decoder.submit([once])
        started = time.perf_counter()
        decoder.run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())

"""How many passages a pool of experts can hold, and what a plan should take for N of them.

    python benchmarks/capacity.py [--quick] [--json FILE] [--work DIR] [--passages FILE]
                                  [--sizes N,N] [--pools POOL,POOL] [--rate RATE] [--kept]

Trains pools of several sizes and rows of several granularities on growing corpora, each for the
same number of epochs, and asks questions in wordings that no training used with each passage's own
row. Then fits how own-row F1 falls with the facts an expert's parameter has to hold. FILE has JSON
lines with id, title and text; by default the 915 passages of examples/popqa. With --work, what is
measured is kept there, a training's checkpoints too, and the same command goes on; --kept fits what
is there of those sizes and that rate, and trains nothing. One seed; the question rules are those
that wrote the training questions, so the figures compare pools with each other, not with other
systems.
"""

import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cluster.plan.capacity import LAW_RATE
from harness.cells import Cells
from harness.examples import PASSAGES, ROOT
from harness.plain_workers import encode_here
from harness.reporting import Goal, finish, options, show
from polyprag.augment.corpus import augment_corpus
from polyprag.config.files import load_config, save_config
from polyprag.encoding.reader import Encoding
from polyprag.evaluation.held_out_questions import write_lead_questions
from polyprag.evaluation.run import evaluate, parse_methods
from polyprag.retrieval.building.index import build_index
from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare

NUM_PASSAGES = (540, 1_080, 3_000, 10_000)  # fewer make too few steps to learn from
POOLS = (  # experts, rank, granularity
    (32, 2, "module"),
    (8, 2, "module"),
    (128, 2, "module"),
    (8, 8, "module"),
    (32, 2, "layer"),
    (32, 2, "model"),
)
QUESTIONS = 1_000  # asked at most, evenly spread over the corpus
COLUMNS = (
    *("passages", "experts", "rank", "granularity", "numbers a row"),
    *("parameters", "facts", "parameters a fact", "f1"),
)


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep what is measured there")
    parser.add_argument("--passages", type=Path, metavar="FILE", default=PASSAGES)
    parser.add_argument("--sizes", metavar="N,N", help="passages of the corpora, the first of FILE")
    parser.add_argument(
        "--pools", metavar="POOL,POOL", help="such as 32/2/module: experts, rank, granularity"
    )
    parser.add_argument("--rate", type=float, default=LAW_RATE, help="train.experts_lr  [3e-3]")
    parser.add_argument("--kept", action="store_true", help="fit what --work has, train nothing")
    args = parser.parse_args()
    if args.kept and args.work is None:
        parser.error("--kept: of which --work?")
    passages = args.passages.resolve()
    os.chdir(ROOT)  # the model's path is relative to it
    lines = passages.read_text(encoding="utf-8").splitlines(keepends=True)
    sizes = (8, 24) if args.quick else [n for n in NUM_PASSAGES if n < len(lines)] + [len(lines)]
    if args.sizes:
        sizes = sorted({int(size) for size in args.sizes.split(",")})
    if sizes[-1] > len(lines) and not args.kept:
        parser.error(
            f"--sizes: {sizes[-1]:,} passages are asked for; {passages} has {len(lines):,}"
        )
    pools = ((8, 2, "module"), (8, 8, "module"), (32, 2, "layer")) if args.quick else POOLS
    if args.pools:
        parts = [pool.split("/") for pool in args.pools.split(",")]
        pools = tuple((int(num), int(rank), granularity) for num, rank, granularity in parts)
    found = []
    with tempfile.TemporaryDirectory(prefix="capacity-") as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        cells = Cells(work / "cells.jsonl")
        if args.kept:
            kept = [settings | measured for settings, measured in cells.all()]
            of_rate = [row for row in kept if row.get("rate") == args.rate]
            found = [row for row in of_rate if row["passages"] in sizes]
            pools = ()
        for size in sizes:  # the small ones first: a stopped run has whole columns
            for experts, rank, granularity in pools:
                settings = {
                    "passages": size,
                    "experts": experts,
                    "rank": rank,
                    "granularity": granularity,
                    "rate": args.rate,
                }
                place = work / "-".join(map(str, settings.values()))
                measured = cells.measured(
                    settings, lambda p=place, s=settings: measure(p, lines, **s)
                )
                found.append(settings | measured)
    show("own row, unseen wordings", COLUMNS, [[row[name] for name in COLUMNS] for row in found])
    law = fit(found)
    print(
        f"F1 = {law['ceiling']:.2f} sigmoid({law['start']:.2f} + {law['experts']:.2f} ln(experts) "
        f"{law['facts']:+.2f} ln(facts) {law['size']:+.2f} ln(parameters an expert) "
        f"{law['sites']:+.2f} ln(sites)), mean error {law['error']:.3f}"
    )
    goals = [Goal("the law's mean error of F1", law["error"], "<= .05", law["error"] <= 0.05)]
    finish({"quick": args.quick, "cells": found, "law": law}, goals, args.json)
    return 0


def measure(
    place: Path,
    lines: list[str],
    *,
    passages: int,
    experts: int,
    rank: int,
    granularity: str,
    rate: float,
) -> dict[str, Any]:
    """Trains one pool on the first passages, and asks about them; `place` is there meanwhile."""
    changed = [
        f"experts.num={experts}",
        f"experts.rank={rank}",
        f"experts.alpha={16 * rank}",
        f"router.granularity={granularity}",
        f"train.experts_lr={rate}",
        "cluster.workers=1",
        "index.lsa_dims=8",
        f"data.partition_size={max(8, min(64, passages // 8))}",
    ]
    config = load_config(["quickstart"], changed)
    run = place / "run"
    if not (run / "config.yaml").exists():  # which is written when the corpus is whole
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        source = run / "passages.jsonl"
        source.write_text("".join(lines[:passages]), encoding="utf-8")
        prepare([str(source)], run / "corpus", partition_size=config.data.partition_size)
        augment_corpus(run, config)
        save_config(config, run)
    encode_here(run, config)
    build_index(run, config)
    questions = place / "questions.jsonl"
    write_lead_questions(run, questions, limit=QUESTIONS)
    results = evaluate(
        run,
        config,
        questions_path=questions,
        methods=parse_methods("poly"),
        out_dir=place / "results",
        gold_passages=True,
    )["poly"]
    encoding = Encoding.load(run)
    parameters = sum(weight.numel() for weight in encoding.expert_state().values())
    pairs = [
        (record.passage.id, qa.answer)
        for record in Corpus.open(run / "corpus").iterate()
        if record.augmentation
        for qa in record.augmentation.qas
    ]
    logged = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in logged]
    shutil.rmtree(place)
    return {
        "f1": results["f1"],
        "ci95": results["ci95"],
        "questions": results["n"],
        "facts": len(set(pairs)),
        "examples": len(pairs),
        "parameters": parameters,
        "parameters a fact": round(parameters / len(set(pairs)), 1),
        "numbers a row": encoding.manifest.num_sites * experts,
        "last_loss": steps[-1]["loss"],
        "seconds": sum(step["seconds"] for step in steps),
    }


def fit(found: list[dict[str, Any]]) -> dict[str, float]:
    """Least squares of the log odds of F1 / ceiling on logarithms of what a pool has."""
    f1 = np.array([row["f1"] for row in found])
    ceiling = min(1.0, float(f1.max()) + 0.01)
    share = np.clip(f1 / ceiling, 0.01, 0.99)
    columns = np.array(
        [
            [
                1.0,
                math.log(row["experts"]),
                math.log(row["facts"]),
                math.log(row["parameters"] / row["experts"]),
                math.log(row["numbers a row"] / row["experts"]),
            ]
            for row in found
        ]
    )
    weights, *_ = np.linalg.lstsq(columns, np.log(share / (1 - share)), rcond=None)
    predicted = ceiling / (1 + np.exp(-columns @ weights))
    names = ("start", "experts", "facts", "size", "sites")
    law = {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}
    return law | {"ceiling": ceiling, "error": float(np.abs(predicted - f1).mean())}


if __name__ == "__main__":
    sys.exit(main())

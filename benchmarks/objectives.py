"""What should a question teach: its answer, what a teacher says, or both? In which formats?

    python benchmarks/objectives.py [--quick] [--passages N] [--seeds N] [--only qa,...]
                                    [--json FILE] [KEY=VALUE ...]

Encodes the first passages of examples/popqa with each `train.objective` and each choice of
`data.formats`, on the quickstart's settings, and asks held-out questions on the passages' lead
facts with the passage's own row, with another one's, and with the passage in the prompt besides.
"""

import json
import os
import shutil
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from harness.examples import PASSAGES, ROOT
from harness.plain_workers import encode_here
from harness.reporting import add_parts, finish, options, show
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import load_config, save_config
from polyprag.evaluation.held_out_questions import write_lead_questions
from polyprag.evaluation.run import evaluate, parse_methods
from polyprag.retrieval.building.index import build_index
from polyprag.teaching.teach import teach_corpus
from sharding.ingest.prepare import prepare

OBJECTIVES = ("answers", "distill", "both")
FORMATS = ("qa", "passage_qa+qa", "qa+passage")
METHODS = "poly,poly-wrong-row,combine"


def one_run(
    prepared: Path, run: Path, config: Config, questions: Path, *, methods: str
) -> dict[str, float]:
    """Encodes a copy of a run whose teacher has spoken, and returns the F1 of each method."""
    shutil.copytree(prepared, run)
    save_config(config, run)
    seconds = encode_here(run, config)
    build_index(run, config)
    results = evaluate(
        run,
        config,
        questions_path=questions,
        methods=parse_methods(methods),
        out_dir=run / "results",
        gold_passages=True,
    )
    steps = len((run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    shutil.rmtree(run)
    found = {method: float(result["f1"]) for method, result in results.items()}
    return found | {"seconds": seconds, "steps": steps}


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=150, help="of examples/popqa")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of all runs")
    add_parts(parser, FORMATS)
    args = parser.parse_args()
    num_passages, num_seeds = (24, 1) if args.quick else (args.passages, args.seeds)
    os.chdir(ROOT)  # the model's path is relative to it
    overrides = ["data.partition_size=16", "train.objective=distill", *args.overrides]
    config = load_config(["quickstart"], overrides)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        source = directory / "passages.jsonl"
        lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)[:num_passages]
        source.write_text("".join(lines), encoding="utf-8")
        prepared = directory / "prepared"
        prepare([str(source)], prepared / "corpus", partition_size=config.data.partition_size)
        augment_corpus(prepared, config)
        teaching = teach_corpus(str(prepared), config)
        questions = directory / "lead.jsonl"
        num_questions = write_lead_questions(prepared, questions)
        bounds = one_run(
            prepared, directory / "bounds", config, questions, methods=f"closed,rag,{METHODS}"
        )
        rows: list[dict[str, Any]] = []
        kinds = ("qa",) if args.quick else args.only
        for formats, objective, seed in product(kinds, OBJECTIVES, range(num_seeds)):
            changed = replace(
                config,
                data=replace(config.data, formats=formats.split("+")),
                train=replace(config.train, objective=objective, seed=seed),
            )
            found = one_run(prepared, directory / "run", changed, questions, methods=METHODS)
            rows.append({"formats": formats, "objective": objective, "seed": seed} | found)
            print(json.dumps(rows[-1]), flush=True)
    report(args.json, rows, bounds, num_passages=num_passages, num_questions=num_questions)
    print(
        f"the teacher: {sum(part.num_bytes for part in teaching.parts):,} bytes for "
        f"{sum(part.num_questions for part in teaching.parts):,} questions"
    )


def report(
    path: Path | None,
    rows: list[dict[str, Any]],
    bounds: dict[str, float],
    *,
    num_passages: int,
    num_questions: int,
) -> None:
    """Prints the means over the seeds and writes the JSON."""
    kinds = list(dict.fromkeys((row["formats"], row["objective"]) for row in rows))
    names = [*METHODS.split(","), "seconds"]
    table = []
    for kind in kinds:
        of_kind = [row for row in rows if (row["formats"], row["objective"]) == kind]
        table.append((*kind, *(mean(row[name] for row in of_kind) for name in names)))
    title = (
        f"{num_passages} passages, {num_questions} held-out questions, F1; "
        f"closed {bounds['closed']:.3f}, rag {bounds['rag']:.3f}"
    )
    show(title, ("formats", "objective", *names), table)
    finish({"rows": rows, "bounds": bounds, "num_questions": num_questions}, [], path)


if __name__ == "__main__":
    main()

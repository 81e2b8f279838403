"""What the formats of served routing rows cost: bytes, time to read them, and F1.

    python benchmarks/serving_rows.py [--quick] [--json FILE]

Encodes the passages of examples/popqa once and asks for their lead facts, in wordings that no
training saw, each with its own passage's row: as trained (fp32), and as an index keeps it, in fp16
and in int8 with one scale a row. Everything else is the same, so a difference in F1 is the
format's. Reading is timed on larger tables of rows of that shape, in turns.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.encoded import encoded_run
from harness.examples import PASSAGES, ROOT, first_questions
from harness.reporting import Goal, finish, options, show
from polyprag.answering.answerer import Answerer
from polyprag.answering.given import hits_of
from polyprag.config import Config
from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding
from polyprag.evaluation.held_out_questions import write_lead_questions
from polyprag.evaluation.metrics import bootstrap_interval, score
from polyprag.evaluation.questions import Question, read_questions
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.parts.serving_rows import ServingRows, write_rows
from polyprag.retrieval.results import Hits
from polyprag.retrieval.search import Index

FORMATS = ("fp16", "int8")
COSTS = {"fp16": 0.005, "int8": 0.01}  # F1 that a format may cost
TAKEN = 3  # rows of a question, retrieval.top_k
BATCH = 64  # questions
Take = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]


def popqa_run(directory: Path, *, quick: bool) -> tuple[Path, Config]:
    """A run of PopQA's passages, encoded and indexed; the first questions' only with `quick`."""
    passages = PASSAGES
    if quick:
        passages, _ = first_questions(directory, num_questions=40)
    overrides = ["data.partition_size=16", "train.epochs=4"] if quick else []
    config = load_config(["quickstart"], overrides)
    return encoded_run(directory, passages, config), config


def f1_of(answerer: Answerer, questions: list[Question], hits: list[Hits]) -> list[float]:
    """Each question's F1 when it is answered from given rows."""
    answers = answerer.answer([question.question for question in questions], mode="poly", hits=hits)
    return [
        score(answer.text, question.answers).f1
        for answer, question in zip(answers, questions, strict=True)
    ]


def quality(run: Path, config: Config, questions: list[Question]) -> dict[str, list[float]]:
    """Each format's F1 of every question."""
    answerer = Answerer.open(run, config, modes=["poly"])
    encoding = Encoding.load(run)
    hits = [hits_of(answerer.indexed(), question.gold) for question in questions]
    trained = [replace(hit, rows=encoding.rows(hit.ids)) for hit in hits]
    found = {"fp32": f1_of(answerer, questions, trained)}
    for rows_format in FORMATS:
        build_index(run, replace(config, index=replace(config.index, rows_format=rows_format)))
        answerer.index = Index.open(run)
        hits = [hits_of(answerer.indexed(), question.gold) for question in questions]
        found[rows_format] = f1_of(answerer, questions, hits)
    return found


def tables(
    directory: Path, *, num_passages: int, shape: tuple[int, int]
) -> dict[str, tuple[Take, int]]:
    """How rows are read in each format, and the bytes of them all."""
    rows_NSK = np.random.default_rng(0).standard_normal((num_passages, *shape), dtype=np.float32)
    np.save(directory / "fp32.npy", rows_NSK)
    mapped = np.load(directory / "fp32.npy", mmap_mode="r")

    def take_fp32(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.asarray(mapped[ids])

    made: dict[str, tuple[Take, int]] = {"fp32": (take_fp32, mapped.nbytes)}
    for rows_format in FORMATS:
        path = directory / rows_format
        path.mkdir()
        write_rows(
            path,
            lambda ids: rows_NSK[ids],
            shape=rows_NSK.shape,
            rows_format=rows_format,
            chunk=1024,
            progress=lambda _: None,
        )
        size = sum(np.load(file, mmap_mode="r").nbytes for file in path.iterdir())
        made[rows_format] = (ServingRows.open(path, num_passages=num_passages).take, size)
    return made


def microseconds(takes: dict[str, Take], *, num_passages: int, count: int) -> dict[str, float]:
    """The median time of taking `count` random rows, the formats in turns."""
    generator = np.random.default_rng(1)
    spent: dict[str, list[float]] = {name: [] for name in takes}
    for _ in range(300):
        ids = generator.integers(num_passages, size=count)
        for name, take in takes.items():
            started = time.perf_counter()
            take(ids)
            spent[name].append(1e6 * (time.perf_counter() - started))
    return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
    """Runs the benchmark."""
    args = options(__doc__.splitlines()[0]).parse_args()
    os.chdir(ROOT)  # the model's path is relative to it
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        run, config = popqa_run(directory, quick=args.quick)
        lead = directory / "lead.jsonl"
        write_lead_questions(run, lead, limit=200 if args.quick else None)
        f1 = quality(run, config, read_questions(lead))
        manifest = Encoding.load(run).manifest
        shape = (manifest.num_sites, manifest.num_experts)
        num_passages = 20_000 if args.quick else 200_000
        made = tables(directory, num_passages=num_passages, shape=shape)
        takes = {name: take for name, (take, _) in made.items()}
        one = microseconds(takes, num_passages=num_passages, count=TAKEN)
        batch = microseconds(takes, num_passages=num_passages, count=TAKEN * BATCH)
    results: dict[str, dict[str, Any]] = {}
    for name, scores in f1.items():
        differences = [b - a for a, b in zip(f1["fp32"], scores, strict=True)]
        results[name] = {
            "bytes_a_passage": made[name][1] / num_passages,
            "take_us": one[name],
            "take_batch_us": batch[name],
            "f1": sum(scores) / len(scores),
            "f1_minus_fp32": sum(differences) / len(differences),
            "f1_minus_fp32_ci95": list(bootstrap_interval(differences)),
            "answers_changed": sum(difference != 0 for difference in differences),
        }
    show(
        f"rows of {shape[0]} sites x {shape[1]} experts, {len(f1['fp32'])} questions on lead facts",
        ("format", "bytes", f"us for {TAKEN}", f"us for {TAKEN * BATCH}", "F1", "- fp32"),
        [
            (name, r["bytes_a_passage"], r["take_us"], r["take_batch_us"], r["f1"],
             f"{r['f1_minus_fp32']:+.4f}")
            for name, r in results.items()
        ],
    )  # fmt: skip
    goals = [
        Goal(f"{name}: F1 that it costs", cost, f"<= {most}", cost <= most)
        for name, most in COSTS.items()
        for cost in [results["fp32"]["f1"] - results[name]["f1"]]
    ]
    whole = {
        "formats": results,
        "row_shape": list(shape),
        "questions": len(f1["fp32"]),
        "passages_timed": num_passages,
    }
    finish(whole, goals, args.json)


if __name__ == "__main__":
    main()

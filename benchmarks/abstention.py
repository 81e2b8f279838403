"""Is it told which answers not to trust? F1 of the surest answers, and of those that are trusted.

    python benchmarks/abstention.py [--quick] [--json FILE] [--run RUN]

A run of the quickstart's corpus loses three tenths of its passages, so that some questions have no
answer in it. PopQA's questions and those that a person would ask (the development part) are asked;
half of them, by passage, calibrate, and the figures are of the other half. RUN is a quickstart's
run directory, which stays as it is; without it, one is made.
"""

import hashlib
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.checkpoints.edit import forget_checkpoint_rows
from harness.encoded import encoded_run
from harness.examples import PASSAGES, QUESTIONS, ROOT, first_questions
from harness.reporting import Goal, finish, options, show
from polyprag.answering.answerer import Answerer
from polyprag.answering.modes import Mode
from polyprag.answering.trust.confidence import Evidence, Rule
from polyprag.config import AnsweringConfig, Config
from polyprag.config.files import load_config
from polyprag.evaluation.calibration import Target, calibrate
from polyprag.evaluation.questions import Question, read_questions
from polyprag.evaluation.risk_coverage import COVERAGES, trust_scores
from polyprag.evaluation.run import evaluate
from polyprag.growth.remove import remove_from_run
from sharding.corpus.reader import Corpus

PERSONS = ROOT / "examples" / "wikipedia-questions" / "questions-dev.jsonl"
METHODS: tuple[Mode, ...] = ("poly", "rag", "combine")
GONE = 0.3  # of the passages


def encoded(directory: Path, passages: Path, *, quick: bool) -> Path:
    """Makes a run of the passages, in this process."""
    config = load_config(["quickstart"], ["data.partition_size=16"] if quick else [])
    return encoded_run(directory, passages, config)


def lose_passages(run: Path, config: Config) -> set[str]:
    """Removes three tenths of a run's passages, by a seed; returns their titles."""
    corpus = Corpus.open(run / "corpus")
    titles = {record.passage.id: record.passage.title for record in corpus.iterate()}
    ids = sorted(random.Random(0).sample(sorted(titles), int(GONE * len(titles))))
    remove_from_run(str(run), ids, config=config, forget_in_checkpoint=forget_checkpoint_rows)
    return {titles[i] for i in ids}


def halves(questions: Path, directory: Path) -> tuple[Path, Path]:
    """Writes two halves of a question file, no passage being in both."""
    lines: tuple[list[str], list[str]] = ([], [])
    for line in questions.read_text(encoding="utf-8").splitlines():
        title = json.loads(line)["passages"][0]["title"]
        lines[hashlib.sha256(title.encode()).digest()[0] % 2].append(line)
    written = tuple(directory / f"{questions.stem}-{part}.jsonl" for part in "ab")
    for path, part in zip(written, lines, strict=True):
        path.write_text("\n".join(part) + "\n", encoding="utf-8")
    return written[0], written[1]


def predictions(directory: Path, method: Mode) -> list[dict[str, Any]]:
    """What `evaluate` wrote."""
    text = (directory / f"predictions-{method}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def judged(lines: Sequence[dict[str, Any]], rule: Rule) -> dict[str, Any]:
    """How well a rule tells good answers from bad ones."""
    evidence = [Evidence(**line["evidence"]) for line in lines]
    f1 = [line["f1"] for line in lines]
    confidences = [rule.confidence(each) for each in evidence]
    trusted = [rule.judge(each).reason is None for each in evidence]
    unanswerable = [ok for ok, line in zip(trusted, lines, strict=True) if line["unanswerable"]]
    found = trust_scores(confidences, trusted, f1)
    assert found is not None
    return {
        **found,
        "n": len(f1),
        "aurc_of_chance": 1 - float(np.mean(f1)),
        "aurc_of_an_oracle": trust_scores(f1, trusted, f1)["aurc"],  # type: ignore[index]
        "mean_confidence": float(np.mean(confidences)),
        "n_unanswerable": len(unanswerable),
        "unanswerable_trusted": float(np.mean(unanswerable)) if unanswerable else 0.0,
    }


def seconds(
    run: Path, config: Config, questions: Sequence[Question]
) -> dict[str, dict[str, float]]:
    """Seconds for a batch of answers: nothing judged, as by default, with the base model asked."""
    asked = [question.question for question in questions]
    never = replace(config, answering=AnsweringConfig(abstain="never"))
    opened = {
        "not judged": (Answerer.open(run, never, modes=METHODS), False),
        "judged": (Answerer.open(run, config, modes=METHODS), False),
        "and the base model asked": (Answerer.open(run, config, modes=METHODS), True),
    }
    times: dict[str, dict[str, list[float]]] = {}
    for turn in range(4):  # in turns, as other work on the machine comes and goes
        for method in METHODS:
            for name, (answerer, everything) in opened.items():
                started = time.process_time()
                answerer.answer(asked, mode=method, all_evidence=everything)
                if turn:
                    took = time.process_time() - started
                    times.setdefault(method, {}).setdefault(name, []).append(took)
    return {
        method: {name: float(np.median(took)) for name, took in of_method.items()}
        for method, of_method in times.items()
    }


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, metavar="RUN", help="a quickstart's run directory")
    args = parser.parse_args()
    given = args.run and args.run.resolve()
    os.chdir(ROOT)  # the model's path is relative to it
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        passages, files = PASSAGES, [QUESTIONS, PERSONS]
        if args.quick:
            passages, some = first_questions(directory, num_questions=60)
            files = [some]
        if given:
            run = directory / "run"
            for part in ("corpus", "encoding", "index", "config.yaml"):
                if (given / part).is_dir():
                    shutil.copytree(given / part, run / part)
                else:
                    shutil.copy(given / part, run / part)
        else:
            run = encoded(directory, passages, quick=args.quick)
        config = load_config(run_dir=run)
        gone = lose_passages(run, config)
        dirs: tuple[list[Path], list[Path]] = ([], [])
        of_title = {}
        for path in files:
            for half, out in zip(halves(path, directory), dirs, strict=True):
                results = directory / half.stem
                evaluate(run, config, questions_path=half, methods=METHODS, out_dir=results)
                out.append(results)
                of_title.update({q.id: q.passages[0].title for q in read_questions(half)})
        abstention = calibrate(run, dirs[0], target=Target()).abstention
        calibrated = abstention.modes if abstention else {}
        tables: dict[str, Any] = {}
        for method in METHODS:
            lines = [line for results in dirs[1] for line in predictions(results, method)]
            for line in lines:
                line["unanswerable"] = of_title[line["id"]] in gone
            tables[method] = {"default": judged(lines, Rule())}
            if method in calibrated:
                tables[method]["calibrated"] = judged(lines, calibrated[method].rule)
        cost = seconds(run, config, read_questions(QUESTIONS, limit=32))
    report(args.json, tables, cost, quick=args.quick)


def report(
    path: Path | None, tables: dict[str, Any], cost: dict[str, dict[str, float]], *, quick: bool
) -> None:
    """Prints the tables and writes the JSON."""
    rows = [
        (f"{method}, {name}", each) for method in tables for name, each in tables[method].items()
    ]
    show(
        "F1 (%) of the surest answers, on questions that nothing was calibrated by",
        ("method, rule", *(f"{each} %" for each in COVERAGES), "AURC", "chance", "oracle"),
        [
            (
                name,
                *(100 * each["f1_at"][str(coverage)] for coverage in COVERAGES),
                *(each[key] for key in ("aurc", "aurc_of_chance", "aurc_of_an_oracle")),
            )
            for name, each in rows
        ],
    )
    show(
        "what is trusted (%)",
        ("method, rule", "trusted", "F1", "F1 of the others", "of unanswerable", "confidence", "n"),
        [
            (
                name,
                100 * each["coverage"],
                *(
                    "-" if each[key] is None else 100 * each[key]
                    for key in ("f1_trusted", "f1_not_trusted")
                ),
                100 * each["unanswerable_trusted"],
                100 * each["mean_confidence"],
                each["n"],
            )
            for name, each in rows
        ],
    )
    show(
        "processor seconds for 32 answers",
        ("method", *next(iter(cost.values()))),
        [(method, *of_method.values()) for method, of_method in cost.items()],
    )
    goals = []
    for method in METHODS:
        for name, each in tables[method].items():
            share = each["aurc"] / each["aurc_of_chance"]
            goals.append(
                Goal(
                    f"{method}, {name}: AURC / that of chance", share, "at most 0.75", share <= 0.75
                )
            )
            of_gone = each["unanswerable_trusted"]
            goals.append(
                Goal(
                    f"{method}, {name}: unanswerable trusted",
                    of_gone,
                    "at most 0.1",
                    of_gone <= 0.1,
                )
            )
        if "calibrated" in tables[method]:
            each = tables[method]["calibrated"]
            off = abs(each["mean_confidence"] - (1 - each["aurc_of_chance"]))
            goals.append(Goal(f"{method}: mean confidence - F1", off, "at most 0.05", off <= 0.05))
        extra = cost[method]["judged"] / cost[method]["not judged"] - 1
        goals.append(Goal(f"{method}: more time for judging", extra, "at most 0.05", extra <= 0.05))
    finish({"quick": quick, "tables": tables, "processor_seconds": cost}, goals, path)


if __name__ == "__main__":
    main()

"""Passages that join an encoding later: how well are they known, and how soon?

    python benchmarks/adding.py [--quick] [--json FILE]

Every sixth passage of examples/popqa is kept back. One encoding is trained without them, and they
are added to it as `polyprag add` does, the experts frozen: from zero rows, from the mean of their
neighbours' rows, and from random codes, with different numbers of updates. Another encoding is
trained with all passages together, and the first is trained on over the grown corpus
(`polyprag train-more`). All are asked for the lead facts of the passages that were kept back, in
wordings that no training saw, with the passage's own row; another passage's row is the control.
"""

import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.examples import PASSAGES, ROOT
from harness.plain_workers import encode_here
from harness.reporting import Goal, finish, options, show
from polyprag.answering.answerer import Answerer
from polyprag.answering.given import hits_of
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import load_config
from polyprag.evaluation.held_out_questions import lead_questions
from polyprag.evaluation.metrics import bootstrap_interval, score
from polyprag.evaluation.questions import Question, read_questions
from polyprag.growth.extend import augment_new, train_new_rows
from polyprag.retrieval.building.index import build_index
from sharding.change.growth import append_passages
from sharding.ingest.prepare import prepare

STARTS = ("zeros", "neighbours", "random")  # --quick: only the first
Result = dict[str, Any]


def split(directory: Path, *, limit: int) -> tuple[Path, Path, Path]:
    """Files of all passages, of those that are there from the start, and of those kept back."""
    lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)[:limit]
    files = tuple(directory / f"{name}.jsonl" for name in ("all", "first", "later"))
    for file, chosen in zip(
        files,
        (lines, [x for i, x in enumerate(lines) if i % 6], lines[::6]),
        strict=True,
    ):
        file.write_text("".join(chosen), encoding="utf-8")
    return files[0], files[1], files[2]


def questions_on(run: Path, titles: set[str], *, limit: int) -> list[Question]:
    """Questions on the lead facts of passages with these titles, evenly spaced."""
    found = [
        line for line in lead_questions(run / "corpus") if line["passages"][0]["title"] in titles
    ]
    limit = min(limit, len(found))
    file = run / "questions.jsonl"
    chosen = (found[i * len(found) // limit] for i in range(limit))
    file.write_text("".join(json.dumps(line) + "\n" for line in chosen), encoding="utf-8")
    return list(read_questions(file))


def ask(run: Path, config: Config, questions: list[Question], *, shift: int = 0) -> Result:
    """F1 with each question's own passage's row, or that of the question `shift` places on."""
    build_index(run, config)
    answerer = Answerer.open(run, config, modes=["poly"])
    hits = [hits_of(answerer.indexed(), question.gold) for question in questions]
    hits = hits[shift:] + hits[:shift]
    answers = answerer.answer([question.question for question in questions], mode="poly", hits=hits)
    f1 = [
        score(answer.text, question.answers).f1
        for answer, question in zip(answers, questions, strict=True)
    ]
    return {"f1": sum(f1) / len(f1), "ci95": bootstrap_interval(f1), "n": len(f1)}


def prepared(run: Path, file: Path, config: Config) -> Path:
    """A run with an augmented corpus."""
    prepare([str(file)], run / "corpus", partition_size=config.data.partition_size)
    augment_corpus(run, config)
    return run


def added(run: Path, target: Path, config: Config) -> tuple[Path, float]:
    """A copy of a run whose corpus has grown, with rows for the new passages; and the seconds."""
    shutil.copytree(run, target)
    started = time.monotonic()
    train_new_rows(str(target), config)
    return target, time.monotonic() - started


def main() -> None:
    """Runs the benchmark."""
    args = options(__doc__.splitlines()[0]).parse_args()
    os.chdir(ROOT)  # the model's path is relative to it
    overrides = ["data.partition_size=16", "train.epochs=6"] if args.quick else []
    config = load_config(["quickstart"], overrides)
    whole = config.add.steps
    counts = (whole,) if args.quick else (whole // 4, whole // 2, whole)
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        everything, first, later = split(directory, limit=84 if args.quick else 915)
        titles = {json.loads(line)["title"] for line in later.read_text("utf-8").splitlines()}

        together = prepared(directory / "together", everything, config)
        asked = questions_on(together, titles, limit=40 if args.quick else 300)
        seconds = encode_here(together, config)
        results["trained together"] = ask(together, config, asked) | {"seconds": seconds}

        base = prepared(directory / "base", first, config)
        encode_here(base, config)
        build_index(base, config)
        append_passages(base / "corpus", [str(later)])
        augment_new(str(base), config)
        for start in STARTS[:1] if args.quick else STARTS:
            for steps in counts:
                changed = replace(config, add=replace(config.add, init=start, steps=steps))
                name = f"added, {start}, {steps} updates"
                run, seconds = added(base, directory / name, changed)
                results[name] = ask(run, changed, asked) | {"seconds": seconds}
                if start == config.add.init and steps == whole:
                    results["another row"] = ask(run, changed, asked, shift=len(asked) // 2)
                    best = results[name]
                    joined = run
        if not args.quick:
            results["train-more, 2 epochs"] = trained_more(joined, config, asked)
    show(
        f"{results['trained together']['n']} questions on the {len(titles)} passages kept back",
        ("rows", "F1", "95 %", "of together", "seconds"),
        [
            (
                name,
                r["f1"],
                f"{r['ci95'][0]:.3f}-{r['ci95'][1]:.3f}",
                r["f1"] / results["trained together"]["f1"],
                r.get("seconds", ""),
            )
            for name, r in results.items()
        ],
    )
    ratio = best["f1"] / results["trained together"]["f1"]
    wrong = results["another row"]["f1"] / best["f1"]
    goals = [
        Goal("F1 of added passages / of the same trained together", ratio, ">= 0.9", ratio >= 0.9),
        Goal("F1 with another passage's row / with its own", wrong, "<= 0.2", wrong <= 0.2),
    ]
    finish({"lead_facts": results, "passages": len(titles)}, goals, args.json)


def trained_more(run: Path, config: Config, questions: list[Question]) -> Result:
    """Two epochs more over the grown corpus, experts and all rows."""
    from cluster.checkpoints.manifest import CheckpointManifest

    checkpoint = CheckpointManifest.load(str(run / "checkpoints"))
    assert checkpoint is not None
    phase = checkpoint.phase
    twice = replace(config, train=replace(config.train, epochs=2))
    seconds = encode_here(
        run, twice, first_step=phase.last_step, first_epoch=phase.first_epoch + phase.epochs
    )
    return ask(run, config, questions) | {"seconds": seconds}


if __name__ == "__main__":
    main()

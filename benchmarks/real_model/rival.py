"""One LoRA for each passage of a run, each asked its own passage's questions."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.cells import Cells
from harness.prag import Prag, Recipe
from polyprag.config import Config
from polyprag.evaluation.metrics import bootstrap_interval, score
from polyprag.evaluation.questions import Question, read_questions
from sharding.corpus.passages import Record
from sharding.corpus.reader import Corpus

_TRIED = 12  # passages, for a recipe to be chosen by


def questions_by_passage(run: Path, questions: Path) -> list[tuple[Record, list[Question]]]:
    """Returns the passages that hold what a question's first supporting text says.

    A question whose supporting text is in no passage, cut as they are, is left out.
    """
    records = [r for r in Corpus.open(run / "corpus").iterate() if not r.passage.is_removed]
    texts = [_plain(f"{r.passage.title} {r.passage.text}") for r in records]
    found: dict[int, list[Question]] = {}
    for question in read_questions(questions):
        wanted = _plain(question.gold[0].text) if question.gold else ""
        at = next((i for i, text in enumerate(texts) if wanted and wanted in text), None)
        if at is not None:
            found.setdefault(at, []).append(question)
    return [(records[at], asked) for at, asked in sorted(found.items())]


def questions_of_own_passages(run: Path, questions: Path, file: Path) -> None:
    """Writes the questions that `questions_by_passage` finds, each with its passage, whole."""
    lines = []
    for record, asked in questions_by_passage(run, questions):
        passage = {"title": record.passage.title, "text": record.passage.text}
        for question in asked:
            own = {
                "id": question.id,
                "question": question.question,
                "answers": list(question.answers),
                "passages": [passage | {"is_supporting": True}],
            }
            lines.append(json.dumps(own, ensure_ascii=False) + "\n")
    file.write_text("".join(lines), encoding="utf-8")


def best_recipe(
    run: Path, config: Config, questions: Path, *, recipes: Sequence[Recipe], cells: Cells
) -> Recipe:
    """Returns the recipe whose LoRAs answer most, of the first passages that are asked about."""

    def f1(recipe: Recipe) -> float:
        name = f"tried: {recipe}"
        tried = prag_scores(
            run, config, questions, recipe=recipe, cells=cells, name=name, limit=_TRIED
        )
        return float(tried["f1"])

    return max(recipes, key=f1)


def prag_scores(
    run: Path,
    config: Config,
    questions: Path,
    *,
    recipe: Recipe,
    cells: Cells,
    name: str,
    limit: int,
) -> dict[str, Any]:
    """Trains and asks each passage's LoRA; what is done is kept.

    Args:
        run: whose corpus is augmented.
        config: of the base model, and of an expert's rank, scale and targets.
        questions: a question file.
        recipe: of the training.
        cells: where each passage's scores are kept.
        name: of the recipe and the questions.
        limit: of the passages, which are spread over the corpus.

    Returns:
        What `evaluate` returns of a method, and `ids` of the questions.
    """
    rival: Prag | None = None
    found = []
    passages = questions_by_passage(run, questions)
    ids: list[str] = []
    for record, asked in passages[:: -(-len(passages) // limit)]:
        ids += [question.id for question in asked]

        def measure(record: Record = record, asked: list[Question] = asked) -> dict[str, Any]:
            nonlocal rival
            rival = rival or Prag(config)
            started = time.monotonic()
            examples, loss = rival.train(record, recipe, seed=record.passage.id)
            pairs = zip(rival.answers(asked), asked, strict=True)
            scores = [score(answer, question.answers) for answer, question in pairs]
            return {
                "f1": [each.f1 for each in scores],
                "contains": [float(each.contains) for each in scores],
                "examples": examples,
                "loss": loss,
                "bytes": rival.bytes_a_passage,
                "seconds": time.monotonic() - started,
            }

        key = {"recipe": name, "questions": questions.name, "passage": record.passage.key}
        found.append(cells.measured(key, measure))
    f1 = [value for each in found for value in each["f1"]]
    contains = [value for each in found for value in each["contains"]]
    return {
        "f1": sum(f1) / len(f1),
        "ci95": bootstrap_interval(f1),
        "contains": sum(contains) / len(contains),
        "n": len(f1),
        "ids": ids,
        "examples_a_passage": sum(each["examples"] for each in found) / len(found),
        "bytes_a_passage": found[0]["bytes"],
        "seconds_a_passage": sum(each["seconds"] for each in found) / len(found),
        "recipe": asdict(recipe),
    }


def scores_of(predictions: Path, ids: set[str]) -> dict[str, Any]:
    """Returns the scores of some of the questions that `evaluate` has asked."""
    lines = map(json.loads, predictions.read_text(encoding="utf-8").splitlines())
    found = [line for line in lines if line["id"] in ids]
    f1 = [float(line["f1"]) for line in found]
    return {
        "f1": sum(f1) / len(f1),
        "ci95": bootstrap_interval(f1),
        "contains": sum(float(line["contains"]) for line in found) / len(found),
        "n": len(found),
    }


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())

"""The two corpora and their questions, as a user would have them: files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.examples import PASSAGES, ROOT
from real_model.rival import questions_by_passage


@dataclass(frozen=True)
class Corpus:
    """What is put in, and what is asked.

    Attributes:
        name: of the corpus.
        sources: files or folders for `prepare`.
        questions: a file for each split.
    """

    name: str
    sources: tuple[Path, ...]
    questions: dict[str, Path]


def handbook() -> Corpus:
    """The handbook of an invented company: a folder of prose."""
    place = ROOT / "examples" / "handbook"
    return Corpus("handbook", (place / "pages",), _splits(place))


def wikipedia(directory: Path) -> Corpus:
    """The passages that examples/wikipedia-questions asks about: those of both splits."""
    place = ROOT / "examples" / "wikipedia-questions"
    splits = _splits(place)
    wanted = {passage["text"] for path in splits.values() for passage in _passages(path)}
    lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)
    source = directory / "wikipedia.jsonl"
    kept = [line for line in lines if json.loads(line)["text"] in wanted]
    source.write_text("".join(kept), encoding="utf-8")
    return Corpus("wikipedia", (source,), splits)


def asked_passages(corpus: Corpus, directory: Path, prepared: Path) -> Corpus:
    """The same with those passages alone that a question of either split asks about.

    Args:
        corpus: all of it.
        directory: for the file of passages.
        prepared: a run of all of `corpus`, whose passages they are.
    """
    asked = {
        record.passage.id: record.passage
        for path in corpus.questions.values()
        for record, _ in questions_by_passage(prepared, path)
    }
    source = directory / f"{corpus.name}-asked.jsonl"
    rows = ({"id": p.key, "title": p.title, "text": p.text} for _, p in sorted(asked.items()))
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return replace(corpus, sources=(source,))


def first_questions(corpus: Corpus, directory: Path, *, limit: int) -> Corpus:
    """The same with few questions, for --quick."""
    questions = {}
    for split, path in corpus.questions.items():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        questions[split] = directory / f"{corpus.name}-{split}.jsonl"
        questions[split].write_text("".join(lines[:limit]), encoding="utf-8")
    return replace(corpus, questions=questions)


def _splits(place: Path) -> dict[str, Path]:
    return {split: place / f"questions-{split}.jsonl" for split in ("dev", "test")}


def _passages(path: Path) -> Sequence[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [passage for line in lines for passage in json.loads(line)["passages"]]

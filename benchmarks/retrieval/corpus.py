"""What retrieval is measured on: question sets, and the passages of all of them as one corpus."""

import json
from dataclasses import dataclass
from pathlib import Path

from harness.examples import PASSAGES, QUESTIONS
from polyprag.evaluation.questions import Question, read_questions

SETS = ("popqa", "hotpotqa", "2wikimultihopqa")
_QUICK_QUESTIONS, _QUICK_PASSAGES = 100, 2000


@dataclass(frozen=True)
class QuestionSet:
    """Questions and the passages that each wants found.

    Attributes:
        name: of the set, and of the passages where they aren't all that support an answer.
        questions: their texts.
        wanted: ids of each question's passages, positions in the corpus.
    """

    name: str
    questions: list[str]
    wanted: list[list[int]]

    def half(self, number: int) -> slice:
        """Where the first (0) or the second (1) half of the questions lies."""
        middle = len(self.questions) // 2
        return slice(middle) if number == 0 else slice(middle, None)


class Corpus:
    """Passages without repetitions, (title, text) with white space collapsed."""

    def __init__(self) -> None:
        self.passages: list[tuple[str, str]] = []
        self._ids: dict[tuple[str, str], int] = {}

    def id_of(self, title: str, text: str) -> int:
        """The id of a passage, which is added where it isn't there yet."""
        passage = " ".join(title.split()), " ".join(text.split())
        known = self._ids.setdefault(passage, len(self.passages))
        if known == len(self.passages):
            self.passages.append(passage)
        return known

    def write(self, path: Path) -> None:
        """Writes them as `polyprag prepare` reads them; ids count from 0 there as here."""
        with open(path, "w", encoding="utf-8") as file:
            for i, (title, text) in enumerate(self.passages):
                row = {"id": str(i), "title": title, "text": text}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_sets(data: Path | None, *, quick: bool) -> tuple[Corpus, list[QuestionSet]]:
    """The corpus and the question sets in a directory.

    Args:
        data: with a question file for each of SETS and wikipedia.jsonl; None takes examples/popqa.
        quick: the first questions of each set and the first passages only.
    """
    if data is None:
        files, more = {"popqa": QUESTIONS}, PASSAGES
    else:
        files, more = {name: data / f"{name}.jsonl" for name in SETS}, data / "wikipedia.jsonl"
    corpus, sets = Corpus(), []
    for name, path in files.items():
        questions = read_questions(path, limit=_QUICK_QUESTIONS if quick else None)
        texts = [question.question for question in questions]
        wanted = [_supporting(corpus, question) for question in questions]
        if name == "popqa":
            # The object's paragraph isn't named in the question, so few searches can find it.
            sets.append(QuestionSet("popqa, subject", texts, [ids[:1] for ids in wanted]))
        sets.append(QuestionSet(name, texts, wanted))
    for line in more.read_text(encoding="utf-8").splitlines()[: _QUICK_PASSAGES if quick else None]:
        row = json.loads(line)
        corpus.id_of(row["title"], row["text"])
    return corpus, sets


def _supporting(corpus: Corpus, question: Question) -> list[int]:
    """Adds the passages that came with a question; ids of the supporting ones."""
    ids = {p: corpus.id_of(p.title, p.text) for p in question.passages}
    return list(dict.fromkeys(ids[p] for p in question.gold))

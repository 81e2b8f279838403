"""Question files: JSON lines with `id, question, answers, passages`; errors name FILE:LINE."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyprag.errors import PolypragError
from sharding.storage.files import open_url

_FIELDS = frozenset({"id", "question", "answers", "passages", "is_impossible"})


class QuestionsError(PolypragError):
    """A question file can't be used; names the file and the line."""


@dataclass(frozen=True, slots=True)
class SourcePassage:
    """A passage that came with a question; supporting ones hold its answer."""

    title: str
    text: str
    is_supporting: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One question, its accepted answers and the passages it came with.

    No answers: nothing in the corpus answers it (`is_impossible` in the file, as in SQuAD 2.0).
    """

    id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[SourcePassage, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # every other field of the line

    @property
    def gold(self) -> tuple[SourcePassage, ...]:
        """The supporting passages, in file order."""
        return tuple(passage for passage in self.passages if passage.is_supporting)


def _text(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        found = "is missing" if name not in record else f"is {json.dumps(value)[:60]}"
        raise QuestionsError(f"{where}: the field {name!r} {found}; it must be a non-empty string")
    return value


def _answers(record: Mapping[str, Any], where: str) -> tuple[str, ...]:
    answers, is_impossible = record.get("answers"), record.get("is_impossible", False)
    if not isinstance(is_impossible, bool):
        raise QuestionsError(f"{where}: 'is_impossible' must be true or false")
    if is_impossible:
        if answers not in (None, []):
            raise QuestionsError(
                f"{where}: 'answers' must be empty with is_impossible=true, of a question that no "
                "passage answers"
            )
        return ()
    if (
        not isinstance(answers, list)
        or not answers
        or not all(isinstance(answer, str) and answer.strip() for answer in answers)
    ):
        raise QuestionsError(
            f"{where}: 'answers' must be a list of one or more non-empty strings; of a question "
            "that no passage answers, say is_impossible=true"
        )
    return tuple(answers)


def _source_passage(value: object, where: str) -> SourcePassage:
    if not isinstance(value, dict):
        raise QuestionsError(f"{where}: each passage must be an object with title and text")
    title, is_supporting = value.get("title", ""), value.get("is_supporting", False)
    if not isinstance(title, str):
        raise QuestionsError(f"{where}: a passage's 'title' must be a string")
    if not isinstance(is_supporting, bool):
        raise QuestionsError(f"{where}: a passage's 'is_supporting' must be true or false")
    return SourcePassage(title, _text(value, "text", f"{where}: passage"), is_supporting)


def _question(line: bytes, where: str) -> Question:
    try:
        record = json.loads(line.decode("utf-8"))
        json.dumps(record, ensure_ascii=False).encode()  # an escaped lone surrogate can't be kept
    except UnicodeError as error:
        raise QuestionsError(f"{where}: not valid UTF-8 ({error})") from error
    except (ValueError, RecursionError) as error:
        raise QuestionsError(f"{where}: not a JSON object on one line ({error})") from error
    if not isinstance(record, dict):
        raise QuestionsError(f"{where}: must be a JSON object, not {type(record).__name__}")
    identity = record.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        record["id"] = str(identity)
    passages = record.get("passages", [])
    if not isinstance(passages, list):
        raise QuestionsError(f"{where}: 'passages' must be a list")
    return Question(
        id=_text(record, "id", where),
        question=_text(record, "question", where),
        answers=_answers(record, where),
        passages=tuple(_source_passage(passage, where) for passage in passages),
        extra={name: value for name, value in record.items() if name not in _FIELDS},
    )


def iter_questions(path: str | Path) -> Iterator[Question]:
    """Yields the questions of a JSON-lines file in file order; blank lines are passed over.

    Args:
        path: a path or fsspec URL; `.gz` is decompressed.

    Raises:
        QuestionsError: the file is cut off or holds no question, or a line isn't UTF-8, isn't a
            JSON object, lacks a field, or repeats an id; the message names FILE:LINE.
        FileError: the file is missing or can't be opened.
    """
    line_of: dict[str, int] = {}
    try:
        with ExitStack() as opened:
            file = opened.enter_context(open_url(path))
            is_gzip = str(path).endswith(".gz")
            lines = opened.enter_context(gzip.open(file)) if is_gzip else file
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                question = _question(line.removeprefix(b"\xef\xbb\xbf"), where)
                if question.id in line_of:
                    raise QuestionsError(
                        f"{where}: the id {question.id!r} is already that of line "
                        f"{line_of[question.id]}; ids must be unique"
                    )
                line_of[question.id] = number
                yield question
    except (OSError, EOFError, zlib.error) as error:
        raise QuestionsError(
            f"{path}: can't be read past question {len(line_of)} ({error}); is the file whole?"
        ) from error
    if not line_of:
        raise QuestionsError(f"{path}: holds no question")


def read_questions(path: str | Path, *, limit: int | None = None) -> list[Question]:
    """Returns the file's first `limit` questions (all by default); errors as `iter_questions`.

    Raises:
        QuestionsError: also when `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise QuestionsError(f"--limit {limit}: must be at least 1")
    questions: list[Question] = []
    for question in iter_questions(path):
        questions.append(question)
        if len(questions) == limit:
            break
    return questions

"""Questions of an evaluation, which nothing that is trained on may repeat."""

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyprag.errors import ConfigError

_WORDS_ALIKE = 8  # consecutive ones, from which on a text repeats a question
_FIELDS = ("question", "query", "input", "q")
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class Avoided:
    """Questions that nothing may repeat: not as a whole, and not in eight words running.

    Attributes:
        questions: their words, joined by spaces.
        runs: every run of eight words in them.
    """

    questions: frozenset[str] = frozenset()
    runs: frozenset[str] = frozenset()

    @classmethod
    def of(cls, questions: Iterable[str]) -> "Avoided":
        """Returns what avoids these questions."""
        whole: set[str] = set()
        runs: set[str] = set()
        for question in questions:
            words = plain_words_of(question)
            whole.add(" ".join(words))
            runs.update(_runs(words))
        return cls(frozenset(whole - {""}), frozenset(runs))

    def has(self, text: str) -> bool:
        """Tells whether a question or another text repeats one of them."""
        if not self.questions:
            return False
        words = plain_words_of(text)
        return " ".join(words) in self.questions or any(run in self.runs for run in _runs(words))


def plain_words_of(text: str) -> list[str]:
    """Returns a text's words without case, accents' encoding and punctuation."""
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _runs(words: list[str]) -> Iterator[str]:
    for start in range(len(words) - _WORDS_ALIKE + 1):
        yield " ".join(words[start : start + _WORDS_ALIKE])


def avoided_in(path: str | None) -> Avoided:
    """Returns what avoids the questions of a file, or of a directory's files.

    Args:
        path: `augment.avoid`: JSON lines, JSON, CSV or TSV whose questions are in a field
            `question` (or query, input, q), or text with a question a line. None avoids nothing.

    Raises:
        ConfigError: a file can't be read or holds no question; names it.
    """
    if path is None:
        return Avoided()
    files = [Path(path)]
    if os.path.isdir(path):
        files = sorted(each for each in Path(path).iterdir() if each.suffix in _SUFFIXES)
    found = [question for file in files for question in _questions_in(file)]
    if not found:
        raise ConfigError(
            f"augment.avoid={path!r} holds no question: give a file of JSON lines, JSON, CSV or "
            "TSV with a field `question`, or of text with a question a line"
        )
    return Avoided.of(found)


def _questions_in(file: Path) -> list[str]:
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"augment.avoid: {file} can't be read: {error}") from error
    if file.suffix in (".csv", ".tsv"):
        rows: list[Any] = list(
            csv.DictReader(
                io.StringIO(text.lstrip()), delimiter="\t" if file.suffix == ".tsv" else ","
            )
        )
    elif file.suffix == ".txt":
        return [line for line in text.splitlines() if line.strip()]
    else:
        rows = _json_rows(file, text)
    return [asked for row in rows for asked in _asked_in(row)]


def _json_rows(file: Path, text: str) -> list[Any]:
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else list(_parts(whole))
    except ValueError:
        pass
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ConfigError(f"augment.avoid: {file}:{number}: not JSON ({error})") from error
    return rows


def _parts(whole: Any) -> Iterator[Any]:
    """Yields a file's one object, or the items of the lists in it ({"data": [...]})."""
    yield whole
    if isinstance(whole, dict):
        for value in whole.values():
            if isinstance(value, list):
                yield from value


def _asked_in(row: Any) -> Iterator[str]:
    if isinstance(row, str):
        yield row
    if not isinstance(row, dict):
        return
    for field in _FIELDS:
        value = row.get(field)
        if isinstance(value, str) and value.strip():
            yield value
            return

"""What a teacher has said of a partition that isn't whole yet, in files that a stop leaves behind.

A file is written every few seconds. Its name says whose it is: which partition's, and which
teacher's, so that another teacher never goes on with it. What is asked together depends on nothing
that came before, so that a teacher that was stopped says the same, to the bit.
"""

import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping

from polyprag.errors import FileError, RunError
from polyprag.method.teacher.targets import TaughtAnswer
from polyprag.teaching.part_file import (
    ANY_TOKEN,
    PartAnswers,
    TaughtQuestion,
    parse_answers,
    save_answers,
)
from sharding.storage.files import join, read_bytes

ASKED_NAME = re.compile(r"asked-(\d{5,})-([0-9a-f]{12})-([0-9a-f]{12})\.safetensors")
_WRITE_EVERY_S = 5.0


def questions_in(answers: PartAnswers) -> dict[bytes, TaughtAnswer]:
    """Returns what is in a file, by the keys of the questions."""
    return {
        question.key: question.answer
        for passage in range(answers.num_passages)
        for question in answers.questions(passage)
    }


def asked_files(names: Iterable[str], *, teacher: str) -> dict[int, tuple[str, ...]]:
    """Returns the files of a teacher by partition.

    Args:
        names: of the files in RUN/teacher.
        teacher: the digest that stands for it.
    """
    found: dict[int, tuple[str, ...]] = {}
    for name in sorted(names):
        match = ASKED_NAME.fullmatch(name)
        if match is not None and match[2] == teacher:
            index = int(match[1])
            found[index] = (*found.get(index, ()), name)
    return found


class AskedSoFar:
    """The answers to a partition's questions as they come, kept as files from time to time."""

    def __init__(self, directory: str, index: int, *, teacher: str, names: Iterable[str]) -> None:
        """Reads what an earlier command has left.

        Args:
            directory: RUN/teacher.
            index: of the partition.
            teacher: the digest that stands for it.
            names: the teacher's files of the partition.
        """
        self._directory = directory
        self._stem = f"asked-{index:05d}-{teacher}"
        self._known: dict[bytes, TaughtAnswer] = {}
        for found in self._read(names):
            self._known |= questions_in(found)
        self._unwritten: dict[bytes, TaughtAnswer] = {}
        self._written_at = time.monotonic()

    def of(self, keys: Iterable[bytes]) -> dict[bytes, TaughtAnswer] | None:
        """Returns the answers to questions that were asked together; None where one is missing."""
        keys = list(keys)
        if not all(key in self._known for key in keys):
            return None
        return {key: self._known[key] for key in keys}

    def add(self, answers: Mapping[bytes, TaughtAnswer]) -> None:
        """Takes further answers, and writes all that are new if the last time was a while ago."""
        self._unwritten.update(answers)
        if not self._unwritten or time.monotonic() - self._written_at < _WRITE_EVERY_S:
            return
        questions = [TaughtQuestion(key, answer) for key, answer in self._unwritten.items()]
        save_answers(self._directory, self._stem, [questions], top_k=1)
        self._unwritten.clear()
        self._written_at = time.monotonic()

    def _read(self, names: Iterable[str]) -> Iterator[PartAnswers]:
        for name in names:
            url = join(self._directory, name)
            try:
                data = read_bytes(url)
                is_whole = name.endswith(f"{hashlib.sha256(data).hexdigest()[:12]}.safetensors")
                if is_whole:
                    yield parse_answers(data, vocab_size=ANY_TOKEN, where=url)
            except (RunError, FileError):
                continue  # asked anew

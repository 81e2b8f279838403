"""What a teacher has said of a partition, as one safetensors file.

A question takes 20 bytes, and each token of its answer 6 k + 6: its id, the k likeliest tokens and
their log-probabilities with the tail's (102 bytes with k = 16).

Shapes: P passages, Q questions, n tokens of all answers, k kept tokens.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from polyprag.errors import RunError
from polyprag.method.teacher.targets import TaughtAnswer, TeacherTargets
from sharding.storage.files import atomic_write, join

KEY_BYTES = 16
ANY_TOKEN = 1 << 31  # a vocabulary of this size knows every token
_SLACK = 0.01  # what float16 may add to the logarithm of 1
_ARRAYS = {
    "counts": ("int32", 1),
    "keys": ("uint8", 2),
    "lengths": ("int32", 1),
    "answers": ("int32", 1),
    "ids": ("int32", 2),
    "log_probs": ("float16", 2),
}


def bytes_per_token(top_k: int) -> int:
    """Returns the bytes that a token of an answer takes."""
    return 4 + 4 * top_k + 2 * (top_k + 1)


@dataclass(frozen=True, slots=True)
class TaughtQuestion:
    """A question as it is kept.

    Attributes:
        key: stands for passage, question and written answer.
        answer: the teacher's, or the written one with the teacher's distributions.
    """

    key: bytes
    answer: TaughtAnswer


class PartAnswers:
    """The answers of a partition by passage and question."""

    def __init__(self, arrays: dict[str, npt.NDArray[np.generic]], *, vocab_size: int) -> None:
        """Checks that the arrays belong together.

        Args:
            arrays: as in the file.
            vocab_size: tokens that the model knows.

        Raises:
            ValueError: they don't, or hold what can't be.
        """
        if arrays.keys() != _ARRAYS.keys():
            raise ValueError(f"has the arrays {sorted(arrays)}")
        for name, (dtype, ndim) in _ARRAYS.items():
            if arrays[name].dtype != dtype or arrays[name].ndim != ndim:
                raise ValueError(f"{name} must be {dtype} of {ndim} dimensions")
        self._counts = arrays["counts"].astype(np.int64)
        lengths = arrays["lengths"].astype(np.int64)
        self._keys = arrays["keys"]
        self._answers = arrays["answers"].astype(np.int32)
        self._ids, self._log_probs = (
            arrays["ids"].astype(np.int32),
            arrays["log_probs"].astype(np.float16),
        )
        num_tokens, top_k = self._ids.shape
        if (self._counts < 0).any() or self._keys.shape != (self._counts.sum(), KEY_BYTES):
            raise ValueError("counts and keys don't fit")
        if lengths.shape != self._keys.shape[:1] or (lengths < 1).any():
            raise ValueError("keys and lengths don't fit")
        if lengths.sum() != num_tokens or self._answers.shape != (num_tokens,):
            raise ValueError("lengths and answers don't fit")
        if self._log_probs.shape != (num_tokens, top_k + 1) or top_k < 1:
            raise ValueError("ids and log_probs don't fit")
        for name, ids in (("answers", self._answers), ("ids", self._ids)):
            if num_tokens and (ids.min() < 0 or ids.max() >= vocab_size):
                raise ValueError(f"{name} holds tokens that the model doesn't know")
        if not (self._log_probs <= _SLACK).all():  # nor NaN
            raise ValueError("log_probs holds what is no log-probability")
        self._first = np.concatenate([[0], np.cumsum(self._counts)])
        self._starts = np.concatenate([[0], np.cumsum(lengths)])

    @property
    def num_passages(self) -> int:
        """Passages of the partition."""
        return len(self._counts)

    def count(self, passage: int) -> int:
        """Returns the questions on a passage, by its place in the partition."""
        return int(self._counts[passage])

    def of(self, passage: int, question: int) -> TaughtAnswer:
        """Returns an answer by its passage's place in the partition and its number there."""
        if not 0 <= question < self._counts[passage]:
            raise IndexError(question)
        at = int(self._first[passage]) + question
        span = slice(int(self._starts[at]), int(self._starts[at + 1]))
        return TaughtAnswer(
            self._answers[span], TeacherTargets(self._ids[span], self._log_probs[span])
        )

    def questions(self, passage: int) -> list[TaughtQuestion]:
        """Returns a passage's questions, by its place in the partition."""
        first = int(self._first[passage])
        return [
            TaughtQuestion(self._keys[first + number].tobytes(), self.of(passage, number))
            for number in range(self.count(passage))
        ]


def part_stem(index: int) -> str:
    """Returns how the name of a partition's file begins."""
    return f"part-{index:05d}"


def save_answers(
    directory: str, stem: str, passages: Sequence[Sequence[TaughtQuestion]], *, top_k: int
) -> tuple[str, str, int]:
    """Writes a file under its content-addressed name.

    Args:
        directory: RUN/teacher.
        stem: the name's beginning, such as `part_stem`.
        passages: the questions of each passage.
        top_k: tokens that are kept, k; for a partition without any question.

    Returns:
        The name, its SHA-256 and its bytes.
    """
    flat = [question for passage in passages for question in passage]
    answers = [question.answer for question in flat]
    if answers:
        top_k = answers[0].targets.ids.shape[1]
    none = TeacherTargets(np.zeros((0, top_k), np.int32), np.zeros((0, top_k + 1), np.float16))
    targets = [none, *(answer.targets for answer in answers)]
    keys = np.frombuffer(b"".join(question.key for question in flat), np.uint8)
    data = save(
        {
            "counts": np.array([len(passage) for passage in passages], np.int32),
            "keys": keys.reshape(-1, KEY_BYTES),
            "lengths": np.array([len(answer.ids) for answer in answers], np.int32),
            "answers": np.concatenate(
                [np.zeros(0, np.int32), *(answer.ids for answer in answers)]
            ).astype(np.int32),
            "ids": np.concatenate([each.ids for each in targets]),
            "log_probs": np.concatenate([each.log_probs for each in targets]),
        }
    )
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"{stem}-{sha256[:12]}.safetensors"
    with atomic_write(join(directory, name)) as file:
        file.write(data)
    return name, sha256, len(data)


def parse_answers(data: bytes, *, vocab_size: int, where: str) -> PartAnswers:
    """Returns what is in a file.

    Args:
        data: its bytes.
        vocab_size: tokens that the model knows.
        where: the file, for the error.

    Raises:
        RunError: it isn't such a file.
    """
    try:
        return PartAnswers(load(data), vocab_size=vocab_size)
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunError(
            f"{where}: not what a teacher says ({error}); delete RUN/teacher, and run "
            "`polyprag teach RUN`"
        ) from error

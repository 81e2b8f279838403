"""Answers of an evaluation as they come, so that the same command goes on after an interruption.

OUT/unfinished-<what they were made of> has a file for each chunk of a method's answers, and one for
its latencies. An object store can't append, and what was made of something else is never looked at.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from polyprag.answering.answer import Answer
from polyprag.answering.modes import Mode
from polyprag.answering.trust.abstention import abstention_file
from polyprag.answering.trust.confidence import Evidence
from polyprag.config import Config
from polyprag.encoding.reader import encoding_dir
from polyprag.pretrained.where import is_gguf
from polyprag.routed.map_file import ROUTER, SETTINGS
from sharding.errors import FileError
from sharding.storage.decoding import decode, strict_json
from sharding.storage.files import (
    atomic_write,
    changed_at,
    exists,
    join,
    list_names,
    list_sizes,
    newest_change,
    read_bytes,
    remove_directory,
    sha256_of,
)
from sharding.storage.urls import is_local

_UNFINISHED = re.compile(r"unfinished-[0-9a-f]{16}")
_LOG = logging.getLogger(__name__)


class FoundPassage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A passage behind an answer; `id` is -1 where it isn't in the corpus."""

    id: int
    key: str
    title: str
    score: float


class KeptAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an evaluation needs of an answer.

    Attributes:
        question: its id.
        text: the answer.
        passages: behind it, best first; None where nothing was looked for.
        evidence: what speaks for it; None with `answering.abstain=never`.
        confidence: of it; None likewise.
        reason: why it isn't trusted; None where it is.
    """

    question: str
    text: str
    passages: tuple[FoundPassage, ...] | None
    evidence: Evidence | None
    confidence: float | None
    reason: str | None

    @classmethod
    def of(cls, question: str, answer: Answer) -> "KeptAnswer":
        """Returns what is kept of the answer to the question of an id."""
        passages = None
        if answer.hits is not None:
            passages = tuple(
                FoundPassage(passage.id, passage.key, passage.title, float(score))
                for passage, score in zip(answer.hits.passages, answer.hits.scores, strict=True)
            )
        judged = answer.evidence, answer.confidence, answer.reason
        return cls(question, answer.text, passages, *judged)


class _Latencies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    milliseconds: tuple[float, ...]


class KeptAnswers:
    """The answers of one evaluation that are there already, and those that come."""

    def __init__(self, out_dir: str | Path, *, made_of: Mapping[str, Any], chunk: int) -> None:
        """Touches nothing.

        Args:
            out_dir: where the evaluation's results go.
            made_of: all that decides what the answers are, as JSON values.
            chunk: questions that are answered at once.
        """
        told = json.dumps({**made_of, "chunk": chunk}, sort_keys=True, allow_nan=False)
        key = hashlib.sha256(told.encode()).hexdigest()[:16]
        self._out_dir, self._chunk = out_dir, chunk
        self._directory = join(out_dir, f"unfinished-{key}")

    def of(self, method: Mode, questions: Sequence[str]) -> dict[int, list[KeptAnswer]]:
        """Returns the chunks of a method's answers that are there, by the first question's place.

        Args:
            method: whose.
            questions: the ids of all that it is asked.
        """
        there = set(list_names(self._directory))
        found = {}
        for start in range(0, len(questions), self._chunk):
            name = self._file(method, start)
            answers = self._read(name, list[KeptAnswer]) if name in there else None
            ids = [answer.question for answer in answers or ()]
            if answers and ids == list(questions[start : start + self._chunk]):
                found[start] = answers
        return found

    def keep(self, method: Mode, start: int, answers: Sequence[KeptAnswer]) -> None:
        """Writes a chunk of a method's answers."""
        self._write(self._file(method, start), answers)

    def latencies(self, method: Mode, num_questions: int) -> list[float] | None:
        """Returns a method's latencies in milliseconds, if they were measured.

        Args:
            method: whose.
            num_questions: that it is asked; the sample is drawn from them.
        """
        name = _latencies_file(method, num_questions)
        if not exists(join(self._directory, name)):
            return None
        found = self._read(name, _Latencies)
        return None if found is None else list(found.milliseconds)

    def keep_latencies(
        self, method: Mode, num_questions: int, milliseconds: Sequence[float]
    ) -> None:
        """Writes a method's latencies."""
        self._write(_latencies_file(method, num_questions), _Latencies(tuple(milliseconds)))

    def remove(self) -> None:
        """Deletes what evaluations have kept there, this one and others that were left."""
        for name in list_names(self._out_dir):
            if _UNFINISHED.fullmatch(name):
                remove_directory(join(self._out_dir, name))

    def _file(self, method: Mode, start: int) -> str:
        return f"{method}-{start // self._chunk:06d}.json"

    def _read(self, name: str, kind: type[Any]) -> Any:
        url = join(self._directory, name)
        try:
            return decode(read_bytes(url), kind)
        except (ValueError, FileError) as error:
            _LOG.warning("%s: can't be used (%s); the questions are asked again", url, error)
            return None

    def _write(self, name: str, value: Any) -> None:
        with atomic_write(join(self._directory, name)) as file:
            file.write(strict_json(value) + b"\n")


def ingredients(
    run_dir: str | Path,
    config: Config,
    *,
    questions_path: str | Path,
    top_k: int | None,
    gold_passages: bool,
    version: str,
) -> dict[str, Any]:
    """Returns all that decides what the answers to a question file are, as JSON values.

    Args:
        run_dir: RUN.
        config: of the command.
        questions_path: the question file.
        top_k: passages a question; None for `retrieval.top_k`.
        gold_passages: whether the questions' own passages replace retrieval.
        version: of polyprag.
    """
    made_by = {
        "encoding": join(encoding_dir(run_dir), "manifest.json"),
        "encoding's config": join(encoding_dir(run_dir), "config.yaml"),
        "index": join(run_dir, "index", "manifest.json"),
        "map": join(run_dir, ROUTER, SETTINGS),
        "calibration": abstention_file(run_dir),
    }
    model = config.model.path
    return {
        "polyprag": version,
        "config": msgspec.to_builtins(config),
        "top_k": top_k,
        "gold_passages": gold_passages,
        "questions": sha256_of(questions_path),
        "run": {name: sha256_of(url) for name, url in made_by.items() if exists(url)},
        "model": _files_of(model) if is_local(model) else model,
    }


def _files_of(model: str) -> list[Any]:
    """Returns what shows that a model's files changed: their sizes, and when one was written."""
    if is_gguf(model):
        return [os.path.getsize(model), changed_at(model)]
    return [list_sizes(model), newest_change(model)]


def _latencies_file(method: Mode, num_questions: int) -> str:
    return f"{method}-latencies-of-{num_questions}.json"

"""The manifest of RUN/teacher: who the teacher was, and what it has said of each partition."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from polyprag.config import Config
from polyprag.config.keys import flatten
from polyprag.encoding.base import BaseModel
from polyprag.errors import RunError
from polyprag.method.examples import UNANSWERED
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.storage.files import exists, join
from sharding.storage.versioned import FileKind, Natural, Positive, Sha256, Stored

MANIFEST_NAME = "manifest.json"
TEACHER = "teacher"
PART_NAME = re.compile(r"part-(\d{5,})-([0-9a-f]{12})\.safetensors")
_FORMAT, _VERSION = "polyprag-teacher", 1
_NO_MATTER = ("generation.batch_size",)  # how many are asked at once
# These decide for each partition by itself whether it is asked again; see `TaughtPart`.
_ANSWERS, _MOST_TOKENS = "train.teacher_answers", "generation.max_new_tokens"
# What only a chat template is told.
_OF_CHAT = ("generation.date", "generation.instruction", "generation.thinking")


class TaughtPart(Stored, frozen=True):
    """What the teacher has said of one partition.

    Attributes:
        index: of the partition.
        shard: SHA-256 of the shard whose questions were asked.
        file: part-<index>-<first 12 hex of sha256>.safetensors, in the same directory.
        sha256: of the file.
        num_bytes: of the file.
        num_questions: that were asked.
        num_tokens: of their answers.
        num_written: answers that the teacher wrote.
        num_empty: of these, those without a word.
        num_cut: of these, those that were cut at `max_new_tokens`; they have no EOS. Earlier
            versions let them end there, and didn't count them.
        answers: `train.teacher_answers`: which ones it wrote. None: as `settings` say, which is
            where earlier versions have it.
        max_new_tokens: of an answer that it wrote; None: likewise.
    """

    index: Natural
    shard: Sha256
    file: str
    sha256: Sha256
    num_bytes: Positive
    num_questions: Natural
    num_tokens: Natural
    num_written: Natural
    num_empty: Natural
    num_cut: Natural = 0
    answers: str | None = None
    max_new_tokens: Natural | None = None


class TeachingManifest(Stored, frozen=True):
    """What RUN/teacher holds; written last, so that what it names is there.

    Attributes:
        base_model: the teacher.
        settings: that decide what it says.
        parts: by partition, ascending; some may lack.
    """

    base_model: BaseModel
    settings: dict[str, Any]
    parts: tuple[TaughtPart, ...]
    format: str = _FORMAT
    version: int = _VERSION

    def save(self, directory: str | Path) -> None:
        """Writes `directory/manifest.json`, atomically."""
        _MANIFEST.write(join(directory, MANIFEST_NAME), self)

    @classmethod
    def load(cls, directory: str | Path) -> "TeachingManifest":
        """Reads and checks `directory/manifest.json`.

        Raises:
            RunError: it isn't there, or says something that can't be; names the field.
        """
        return _MANIFEST.read(join(directory, MANIFEST_NAME))

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        before = -1
        for position, part in enumerate(self.parts):
            where = f"parts[{position}]"
            name = PART_NAME.fullmatch(part.file)
            if name is None or int(name[1]) != part.index or not part.sha256.startswith(name[2]):
                raise ValueError(f"{where}.file must be part-<index>-<hash>.safetensors")
            if part.index <= before:
                raise ValueError(f"{where}.index must be above the one before it")
            before = part.index

    def current(self, partitions: Iterable[Partition], config: Config) -> dict[int, TaughtPart]:
        """Returns, by partition, what was said of those of which it would be the same now.

        Args:
            partitions: of the corpus; those whose shard has changed have other questions.
            config: whose teacher this is, as `is_of` tells.
        """
        shards = {partition.index: partition.sha256 for partition in partitions}
        return {
            part.index: part
            for part in self.parts
            if shards.get(part.index) == part.shard and self._has_answers(part, config)
        }

    def _has_answers(self, part: TaughtPart, config: Config) -> bool:
        """Tells whether a part has the answers that a config asks for."""
        before, most = part.answers, part.max_new_tokens
        if before is None:
            before, most = self.settings.get(_ANSWERS), self.settings.get(_MOST_TOKENS)
        if before != config.train.teacher_answers and part.num_written < part.num_questions:
            return False
        return part.num_written == 0 or most == config.generation.max_new_tokens

    def is_of(self, base: BaseModel, settings: dict[str, Any]) -> bool:
        """Tells whether this is the teacher of this base and these `teaching_settings`."""
        chat = settings["generation.prompt"] == "chat"
        mine = _deciding(self.settings, self.base_model)
        return mine == settings and self.base_model.difference(base, chat=chat) is None

    @property
    def teacher(self) -> str:
        """A digest that stands for the teacher, wherever its files lie."""
        base, deciding = self.base_model, _deciding(self.settings, self.base_model)
        template = base.chat_template if deciding["generation.prompt"] == "chat" else None
        model = [base.weights or base.sha256, base.tokenizer, template, base.settings]
        told = json.dumps([model, deciding], sort_keys=True, allow_nan=False)
        return hashlib.sha256(told.encode()).hexdigest()[:12]


_MANIFEST = FileKind(
    struct=TeachingManifest,
    form=_FORMAT,
    version=_VERSION,
    what="a teacher's manifest",
    error=RunError,
    make="run `polyprag teach RUN` first",
    remedy="delete RUN/teacher, and run `polyprag teach RUN`",
)


def teacher_dir(run_dir: str | Path) -> str:
    """Returns `RUN/teacher`."""
    return join(run_dir, TEACHER)


def load_teaching(run_dir: str | Path) -> TeachingManifest | None:
    """Returns the manifest of RUN/teacher; None where there is none.

    Raises:
        RunError: it can't be read.
    """
    directory = teacher_dir(run_dir)
    return TeachingManifest.load(directory) if exists(join(directory, MANIFEST_NAME)) else None


def needs_teacher(config: Config, corpus: CorpusManifest) -> bool:
    """Tells whether a run learns from a teacher.

    Args:
        config: of the run.
        corpus: augmented; a question without an answer needs one of the teacher's.
    """
    train = config.train
    return (
        train.objective != "answers"
        or train.teacher_answers == "all"
        or any(partition.counts.get(UNANSWERED, 0) for partition in corpus.partitions)
    )


def teaching_settings(config: Config, base: BaseModel) -> dict[str, Any]:
    """Returns what decides what a teacher says, besides its weights and what it is asked.

    Args:
        config: of the run.
        base: the teacher, whose chat template decides how it is asked.
    """
    of_generation = {
        key: value for key, value in flatten(config).items() if key.startswith("generation.")
    }
    return _deciding(
        of_generation
        | {
            "model.dtype": config.model.dtype,
            "train.teacher_top_k": config.train.teacher_top_k,
        },
        base,
    )


def _deciding(settings: dict[str, Any], base: BaseModel) -> dict[str, Any]:
    """Returns those of a teacher's settings that decide, also of what earlier versions kept."""
    style = settings["generation.prompt"]
    chat = style == "chat" or (style == "auto" and base.chat_template is not None)
    without = {*_NO_MATTER, _ANSWERS, _MOST_TOKENS, *(() if chat else _OF_CHAT)}
    kept = {key: value for key, value in settings.items() if key not in without}
    return kept | {"generation.prompt": "chat" if chat else "plain"}

"""The encoding's manifest: what was encoded with which base model, and every file's checksum."""

import re
from pathlib import Path

from polyprag.encoding.base import BaseModel
from polyprag.errors import RunError
from sharding.corpus.tar import MAX_ID
from sharding.storage.files import join
from sharding.storage.versioned import (
    FileKind,
    Natural,
    Positive,
    Sha256,
    Stored,
    Values,
    require_field,
)

MANIFEST_NAME = "manifest.json"
_FORMAT, _VERSION = "polyprag-encoding", 4
_MAX_SIZE = 1 << 20  # of sites, experts and ranks, each
_ROWS_NAME = re.compile(r"rows/part-(\d{5,})(-[0-9a-f]{12})?\.safetensors")


class RowsPart(Stored, frozen=True):
    """One partition's rows: ids `first_id` to `first_id + num_passages - 1`."""

    index: Natural
    first_id: Natural
    num_passages: Positive
    file: str  # inside the encoding directory: rows/part-<index>[-<hash>].safetensors
    sha256: Sha256
    joint: bool  # trained together with the experts; False: by `add`, the experts frozen


class ExpertsFile(Stored, frozen=True):
    """The expert pool's weights."""

    file: str
    sha256: Sha256


class Trained(Stored, frozen=True):
    """How long the encoding was trained."""

    steps: int
    epochs: int


class EncodingManifest(Stored, frozen=True):
    """What an encoding directory holds; written last, so that what it names is there."""

    base_model: BaseModel
    num_passages: Positive
    num_sites: Positive
    num_experts: Positive
    rank: Positive
    parts: tuple[RowsPart, ...]
    experts: ExpertsFile
    trained: Trained
    format: str = _FORMAT
    version: int = _VERSION

    def save(self, encoding_dir: str | Path) -> None:
        """Writes `encoding_dir/manifest.json`, atomically."""
        self.check()
        _MANIFEST.write(join(encoding_dir, MANIFEST_NAME), self)

    @classmethod
    def load(cls, encoding_dir: str | Path) -> "EncodingManifest":
        """Reads and checks `encoding_dir/manifest.json`.

        Raises:
            RunError: it isn't there, or says something that can't be; names the field.
        """
        return _MANIFEST.read(join(encoding_dir, MANIFEST_NAME))

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        require_field(
            "/" not in self.experts.file, "experts.file", "a name with no directory in it"
        )
        next_id = 0
        for position, part in enumerate(self.parts):
            where = f"parts[{position}]"
            matched = _ROWS_NAME.fullmatch(part.file)
            if matched is None or int(matched[1]) != part.index:
                name = f"rows/part-{part.index:05d}[-HASH].safetensors"
                raise ValueError(f"{where}.file must be {name}")
            if part.index != position:
                raise ValueError(f"{where}.index must be {position}")
            if part.first_id != next_id:
                raise ValueError(f"{where}.first_id must be {next_id}")
            next_id += part.num_passages
        require_field(next_id <= MAX_ID + 1, "num_passages", f"at most {MAX_ID + 1}")
        for name in ("num_sites", "num_experts", "rank"):
            limit = _MAX_SIZE
            require_field(getattr(self, name) <= limit, name, f"at most {limit}")
        require_field(self.num_passages == next_id, "num_passages", f"the parts' sum, {next_id}")


def _with_joint(values: Values) -> Values:
    """Returns the values of version 1, which knew no `joint`, as those of version 4."""
    parts = values.get("parts")
    if not isinstance(parts, list):
        return values
    joint = [part | {"joint": True} if isinstance(part, dict) else part for part in parts]
    return _with_unknown_base(values | {"parts": joint})


def _with_unknown_base(values: Values) -> Values:
    """Returns the values of version 2, which knew a base's config.json alone, as version 4's."""
    base = values.get("base_model")
    if not isinstance(base, dict):
        return values
    unknown: Values = {"weights": None, "tokenizer": None, "chat_template": None, "settings": {}}
    return values | {"base_model": base | unknown}


def _with_old_names(values: Values) -> Values:
    """Returns the values of version 3, whose experts' file alone has other names in it."""
    return values


_MANIFEST = FileKind(
    struct=EncodingManifest,
    form=_FORMAT,
    version=_VERSION,
    what="an encoding manifest",
    error=RunError,
    make="run `polyprag encode RUN` first",
    remedy="run `polyprag encode RUN` again",
    upgrades={1: _with_joint, 2: _with_unknown_base, 3: _with_old_names},
)

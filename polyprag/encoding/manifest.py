"""The encoding's manifest: what was encoded with which base model, and every file's checksum."""

import dataclasses
import re
import typing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from polyprag.config import ModelConfig
from polyprag.errors import RunError
from sharding.storage.files import exists, join, read_json, sha256_of, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MANIFEST_NAME = "manifest.json"
_FORMAT, _VERSION = "polyprag-encoding", 2
_READABLE = (1, _VERSION)  # version 1 knew no `joint`
_ROWS_NAME = re.compile(r"rows/part-(\d{5,})(-[0-9a-f]{12})?\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "run `polyprag encode RUN` again"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The base model that an encoding belongs to; `sha256` is that of its config.json."""

    path: str
    num_layers: int
    hidden_size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RowsPart:
    """One partition's rows: ids `first_id` to `first_id + num_passages - 1`."""

    index: int
    first_id: int
    num_passages: int
    file: str  # inside the encoding directory: rows/part-<index>[-<hash>].safetensors
    sha256: str
    joint: bool = True  # trained together with the experts; False: by `add`, the experts frozen


@dataclass(frozen=True, slots=True)
class ExpertsFile:
    """The expert pool's weights."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Trained:
    """How long the encoding was trained."""

    steps: int
    epochs: int


@dataclass(frozen=True, slots=True)
class EncodingManifest:
    """What an encoding directory holds; written last, so that what it names is there."""

    base_model: BaseModel
    num_passages: int
    num_sites: int
    num_experts: int
    rank: int
    parts: tuple[RowsPart, ...]
    experts: ExpertsFile
    trained: Trained
    format: str = _FORMAT
    version: int = _VERSION

    def save(self, encoding_dir: str | Path) -> None:
        """Writes `encoding_dir/manifest.json`, atomically."""
        self.check()
        write_json(join(encoding_dir, MANIFEST_NAME), asdict(self))

    @classmethod
    def load(cls, encoding_dir: str | Path) -> Self:
        """Reads and check `encoding_dir/manifest.json`.

        Raises:
            RunError: it isn't there, or says something that can't be; names the field.
        """
        url = join(encoding_dir, MANIFEST_NAME)
        if not exists(url):
            raise RunError(f"{url}: no such file; run `polyprag encode RUN` first")
        values = read_json(url)
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise RunError(f'{url}: not an encoding manifest (format must be "{_FORMAT}")')
        if values.get("version") not in _READABLE:
            raise RunError(
                f"{url}: version {values.get('version')!r} can't be read by this polyprag, which "
                f"reads version {_VERSION}; {_AGAIN}, or install the polyprag that wrote it"
            )
        try:
            manifest = _parse(cls, _as_now(values), "manifest")
            manifest.check()
        except ValueError as error:
            raise RunError(f"{url}: {error}; {_AGAIN}") from error
        return manifest

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        for name in ("num_passages", "num_sites", "num_experts", "rank"):
            _require(getattr(self, name) > 0, name, "at least 1")
        _require("/" not in self.experts.file, "experts.file", "a name with no directory in it")
        next_id = 0
        for position, part in enumerate(self.parts):
            where = f"parts[{position}]"
            matched = _ROWS_NAME.fullmatch(part.file)
            _require(
                matched is not None and int(matched[1]) == part.index,
                f"{where}.file",
                f"rows/part-{part.index:05d}[-HASH].safetensors",
            )
            _require(part.index == position, f"{where}.index", f"{position}")
            _require(part.first_id == next_id, f"{where}.first_id", f"{next_id}")
            _require(part.num_passages > 0, f"{where}.num_passages", "at least 1")
            next_id += part.num_passages
        _require(self.num_passages == next_id, "num_passages", f"the parts' sum, {next_id}")
        hashes = [part.sha256 for part in self.parts]
        for sha256 in (*hashes, self.experts.sha256, self.base_model.sha256):
            _require(_SHA256.fullmatch(sha256) is not None, "sha256", "64 hex digits")


def describe_base(model: "PreTrainedModel", config: ModelConfig) -> BaseModel:
    """Returns what a manifest says of the base model that `load_base(config)` gave."""
    from transformers.utils.hub import cached_file  # seconds, which reading a manifest needn't take

    is_local = Path(config.path).is_dir()
    revision = None if is_local else config.revision
    found = cached_file(config.path, "config.json", revision=revision, local_files_only=True)
    if not isinstance(found, str):
        raise RunError(f"model.path={config.path!r} has no config.json; load the base model first")
    text_config = model.config.get_text_config()
    return BaseModel(
        path=config.path,
        num_layers=int(text_config.num_hidden_layers),
        hidden_size=int(text_config.hidden_size),
        sha256=sha256_of(found),
    )


def _as_now(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a manifest's values as this version writes them."""
    parts = values.get("parts")
    if values["version"] == _VERSION or not isinstance(parts, list):
        return values
    joint = [part | {"joint": True} if isinstance(part, dict) else part for part in parts]
    return values | {"version": _VERSION, "parts": joint}


def _parse(cls: type[T], values: Any, where: str) -> T:
    """Returns the dataclass in JSON values; missing, unknown and mistyped fields are refused."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a JSON object")
    hints = typing.get_type_hints(cls)
    if odd := values.keys() ^ hints.keys():
        raise ValueError(f"{where}: missing or unknown fields: {', '.join(sorted(odd))}")
    return cls(**{k: _parse_value(hint, values[k], f"{where}.{k}") for k, hint in hints.items()})


def _parse_value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _parse(typing.cast(type[Any], hint), value, where)
    if typing.get_origin(hint) is tuple:
        _require(isinstance(value, list), where, "a list")
        item = typing.get_args(hint)[0]
        return tuple(_parse_value(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    _require(type(value) is hint, where, f"of type {hint.__name__}")
    return value


def _require(ok: bool, name: str, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{name} must be {allowed}")

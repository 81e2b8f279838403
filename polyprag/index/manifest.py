"""The index manifest: what the index was built from and the parts that it consists of."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyprag.errors import RunError
from polyprag.index.components import REMEDY, Component
from sharding.files import exists, join, read_json, write_json

_NAME = "manifest.json"
_FORMAT, _VERSION = "polyprag-index", 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEEDED = ("passages", "bm25", "dense")


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """Written last, so that what it names is there.

    Attributes:
        num_passages: N.
        corpus_sha256: of RUN/corpus/manifest.json at the time of the build.
        encoding_sha256: of RUN/encoding/manifest.json; None if there was no encoding.
        components: by name: passages, bm25, dense, and rows where there was an encoding.
    """

    num_passages: int
    corpus_sha256: str
    encoding_sha256: str | None
    components: dict[str, Component]

    def save(self, index_dir: str | Path) -> None:
        """Writes `index_dir/manifest.json`, atomically."""
        write_json(join(index_dir, _NAME), {"format": _FORMAT, "version": _VERSION, **asdict(self)})

    @classmethod
    def load(cls, index_dir: str | Path) -> "IndexManifest":
        """Reads and checks `index_dir/manifest.json`.

        Raises:
            RunError: it isn't there, or says something that can't be.
        """
        path = join(index_dir, _NAME)
        if not exists(path):
            raise RunError(f"{path}: no such file; run `polyprag index RUN` first")
        values = read_json(path)
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise RunError(f'{path}: not an index manifest (format must be "{_FORMAT}"); {REMEDY}')
        if values.get("version") != _VERSION:
            raise RunError(
                f"{path}: version {values.get('version')!r} can't be read by this polyprag, which "
                f"reads version {_VERSION}; {REMEDY}"
            )
        return cls._parse(values, path)

    @classmethod
    def _parse(cls, values: dict[str, Any], path: str) -> "IndexManifest":
        num_passages, parts = values.get("num_passages"), values.get("components")
        corpus: Any = values.get("corpus_sha256")
        encoding: Any = values.get("encoding_sha256")
        if type(num_passages) is not int or num_passages < 1:
            raise RunError(f"{path}: num_passages must be at least 1; {REMEDY}")
        if not _is_sha256(corpus) or not (encoding is None or _is_sha256(encoding)):
            raise RunError(f"{path}: corpus_sha256 or encoding_sha256 isn't a SHA-256; {REMEDY}")
        needed = {*_NEEDED, "rows"} if encoding is not None else {*_NEEDED}
        if not isinstance(parts, dict) or parts.keys() != needed:
            raise RunError(f"{path}: components must be {', '.join(sorted(needed))}; {REMEDY}")
        components = {
            name: Component.parse(part, where=f"{path}: components.{name}")
            for name, part in parts.items()
        }
        return cls(num_passages, corpus, encoding, components)


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None

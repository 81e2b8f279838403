"""The parts of an index on disk: each a directory named for what it was made from.

A part is built under a temporary name and renamed, so whatever carries its name is whole: a build
that was killed goes on with the parts it lacks, and a new encoding rebuilds the rows alone.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyprag.errors import FileError, RunError
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.decoding import decode
from sharding.storage.files import read_bytes, sha256_of
from sharding.storage.versioned import Natural, Sha256, Stored

_NAMES = (
    *("passages", "bm25", "encoder", "embeddings", "dense", "rows"),
    *("texts", "counts", "statistics", "trained", "filled"),  # of a build that isn't finished
)
DIRECTORY_NAME = re.compile(rf"({'|'.join(_NAMES)})-[0-9a-f]{{12}}")
UNFINISHED_NAME = re.compile(rf"\.{DIRECTORY_NAME.pattern}\.[0-9a-f]+\.tmp")
SMALL_FILE = 16 << 20  # bytes; up to this size a file's checksum is verified whenever it is opened

SUMMARY = "component.json"  # written last

_FILE_NAME = re.compile(r"\w[\w.-]*")


class StoredFile(Stored, frozen=True):
    """A file's size and checksum."""

    num_bytes: Natural
    sha256: Sha256


class IndexPart(Stored, frozen=True):
    """A part's directory in the index, and its files by name."""

    directory: str
    files: dict[str, StoredFile]

    def check(self) -> None:
        """Raises `ValueError` where it names files outside the index."""
        if not DIRECTORY_NAME.fullmatch(self.directory):
            raise ValueError("directory must be <part>-<hash>, a directory of the index")
        if not all(map(_FILE_NAME.fullmatch, self.files)):
            raise ValueError("files must be names with no directory in them")

    def verify(self, directory: Path, *, whole: bool = False, shown: str | None = None) -> None:
        """Makes sure that the files are those that were written.

        Args:
            directory: where they are.
            whole: whether large files are hashed too; else only their size is checked.
            shown: the directory that errors name.

        Raises:
            RunError: a file is missing, truncated or changed; names it.
        """
        for name, stored in self.files.items():
            path = directory / name
            where = f"{shown or directory}/{name}"
            if not path.is_file():
                raise RunError(f"{where}: no such file; {REMEDY}")
            if path.stat().st_size != stored.num_bytes:
                raise RunError(
                    f"{where}: holds {path.stat().st_size} bytes where the index's manifest says "
                    f"{stored.num_bytes}; {REMEDY}"
                )
            if (whole or stored.num_bytes <= SMALL_FILE) and sha256_of(path) != stored.sha256:
                raise RunError(f"{where}: SHA-256 differs from the index's manifest; {REMEDY}")


def directory_name(name: str, made_from: Mapping[str, Any]) -> str:
    """Returns the directory of a kind of part that is made from these JSON values."""
    key = json.dumps({"name": name, **made_from}, sort_keys=True)
    return f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def read_summary(url: str | Path, directory: str) -> IndexPart:
    """Returns a part from its `SUMMARY` file.

    Raises:
        RunError: it isn't of the part of that directory.
        FileError: it can't be read.
    """
    data = read_bytes(url)
    try:
        part = decode(data, IndexPart)
        part.check()
    except ValueError as error:
        raise RunError(f"{url}: not a part of an index ({error}); {REMEDY}") from error
    if part.directory != directory:
        raise RunError(f"{url}: is of {part.directory}; {REMEDY}")
    return part


def whole_part(directory: Path) -> IndexPart | None:
    """Returns the part in a local directory, if it is sound."""
    if not (directory / SUMMARY).is_file():
        return None
    try:
        part = read_summary(directory / SUMMARY, directory.name)
        part.verify(directory)
    except (RunError, FileError):
        return None
    return part

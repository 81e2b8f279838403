"""Copies of a remote index's parts on this machine's disk, in the cache that it has for all.

A copy is named for the checksums of its files and verified when it is made.
"""

import hashlib
import json
from pathlib import Path

import msgspec

from polyprag.errors import FileError, RunError
from polyprag.retrieval.parts.part import IndexPart
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.cache import LocalCache
from sharding.storage.files import download, join


def local_copy(cache: LocalCache, url: str, part: IndexPart, *, whole: bool = False) -> Path:
    """Returns a part's local directory; it is downloaded unless a sound copy is there.

    It stays until the cache object is garbage.

    Args:
        cache: this machine's.
        url: of the part's directory.
        part: its files.
        whole: whether the checksums of large files are verified even if the copy was there.

    Raises:
        RunError: a file of the part is missing or isn't what the manifest says, or the disk can't
            hold it.
    """

    def is_sound(directory: Path) -> bool:
        try:
            part.verify(directory, whole=whole)
        except RunError:
            return False
        return True

    def fill(directory: Path) -> None:
        for name in part.files:
            try:
                download(join(url, name), directory / name)
            except FileError as error:
                raise RunError(f"{error}; or {REMEDY}") from error
        part.verify(directory, whole=True, shown=url)

    try:
        return cache.use_directory(key_of(part), is_sound=is_sound, fill=fill)
    except OSError as error:
        raise RunError(
            f"{cache.directories}: can't hold a copy of {url} ({error.strerror or error}); make "
            "room or set data.cache_dir"
        ) from error


def key_of(part: IndexPart) -> str:
    """Returns the key of a part's copy: the same files have the same."""
    files = json.dumps(msgspec.to_builtins(part.files), sort_keys=True)
    return hashlib.sha256(files.encode()).hexdigest()[:32]

"""The store of an index's parts: RUN/index on a local disk, or behind a URL with local copies.

Searching maps files into memory, so every part that is used is a local directory in the end.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from polyprag.errors import FileError, RunError
from polyprag.retrieval.parts.local_copies import key_of, local_copy
from polyprag.retrieval.parts.locks import hold_part, unless_held
from polyprag.retrieval.parts.part import (
    DIRECTORY_NAME,
    SUMMARY,
    UNFINISHED_NAME,
    IndexPart,
    read_summary,
    whole_part,
)
from polyprag.run_dir import INDEX
from sharding.storage.cache import LocalCache, cache_in
from sharding.storage.files import exists, join, list_sizes, remove, remove_directory, upload
from sharding.storage.urls import local_path


class IndexStore(Protocol):
    """What building and searching need of the place where an index is."""

    url: str  # RUN/index

    def finished(self, directory: str) -> IndexPart | None:
        """Returns the sound part of that directory name, if there is one."""

    def scratch(self) -> Path:
        """Returns a local directory in which a part can be built; made if need be."""

    def keep(self, built: Path, part: IndexPart) -> None:
        """Takes a part over that was built in a directory inside `scratch`."""

    def local(self, part: IndexPart, *, whole: bool = False) -> Path:
        """Returns the local directory of a part's files, which have been verified.

        Raises:
            RunError: a file is missing, truncated or changed.
        """

    def remove_others(self, kept: Collection[str], *, even_held: bool) -> None:
        """Deletes parts of earlier indexes and of builds that were killed.

        Args:
            kept: names of the directories that stay.
            even_held: whether parts go that a reader of this index still uses.
        """


def index_store_of(run_dir: str | Path, *, cache_dir: str | None, cache_gb: float) -> IndexStore:
    """Returns the store of RUN/index.

    Args:
        run_dir: RUN, a path or URL.
        cache_dir: `data.cache_dir`, used where RUN is remote.
        cache_gb: `data.cache_gb`.
    """
    path = local_path(run_dir)
    if path is not None:
        return LocalIndexStore(Path(path) / INDEX)
    return RemoteIndexStore(join(run_dir, INDEX), cache_in(cache_dir, max_gb=cache_gb))


class LocalIndexStore:
    """An index in a directory."""

    def __init__(self, directory: Path) -> None:
        self.url, self._directory = str(directory), directory
        self._held: dict[str, IO[bytes]] = {}  # the parts that are in use stay until it is garbage

    def finished(self, directory: str) -> IndexPart | None:
        """See `IndexStore`."""
        return whole_part(self._directory / directory)

    def scratch(self) -> Path:
        """See `IndexStore`."""
        self._directory.mkdir(exist_ok=True)
        return self._directory

    def keep(self, built: Path, part: IndexPart) -> None:
        """See `IndexStore`."""
        target = self._directory / part.directory
        if target.exists():  # damaged, or `finished` had returned it
            shutil.rmtree(target)
        built.rename(target)

    def local(self, part: IndexPart, *, whole: bool = False) -> Path:
        """See `IndexStore`."""
        directory = self._directory / part.directory
        if part.directory not in self._held:
            file = hold_part(directory)
            if file is not None:
                self._held[part.directory] = file
        part.verify(directory, whole=whole)
        return directory

    def remove_others(self, kept: Collection[str], *, even_held: bool) -> None:
        """See `IndexStore`; what doesn't have the name of a part is somebody else's, and stays."""
        for file in self._held.values():
            file.close()
        self._held.clear()
        for path in self._directory.iterdir():
            is_ours = DIRECTORY_NAME.fullmatch(path.name) or UNFINISHED_NAME.fullmatch(path.name)
            if is_ours and path.is_dir() and path.name not in kept:
                with unless_held(path) as is_free:
                    if is_free or even_held:
                        shutil.rmtree(path, ignore_errors=True)


class RemoteIndexStore:
    """An index behind a URL; its parts are used through verified copies on this machine."""

    def __init__(self, url: str, cache: LocalCache) -> None:
        self.url, self._cache = url, cache

    def finished(self, directory: str) -> IndexPart | None:
        """See `IndexStore`; sizes are compared here, checksums when a part is copied."""
        url = join(self.url, directory)
        if not exists(join(url, SUMMARY)):
            return None
        try:
            part = read_summary(join(url, SUMMARY), directory)
            sizes = list_sizes(url)
        except (RunError, FileError):
            return None
        found = {name: sizes.get(name) for name in part.files}
        expected = {name: file.num_bytes for name, file in part.files.items()}
        return part if found == expected else None

    def scratch(self) -> Path:
        """See `IndexStore`: one for each run, on the disk of the copies."""
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        directory = self._cache.directories / f"build-{name}"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def keep(self, built: Path, part: IndexPart) -> None:
        """See `IndexStore`; the summary, which says that a part is whole, is uploaded last."""
        url = join(self.url, part.directory)
        for name in [*part.files, SUMMARY]:
            upload(built / name, join(url, name))
        self._cache.add_directory(key_of(part), built)

    def local(self, part: IndexPart, *, whole: bool = False) -> Path:
        """See `IndexStore`."""
        url = join(self.url, part.directory)
        return local_copy(self._cache, url, part, whole=whole)

    def remove_others(self, kept: Collection[str], *, even_held: bool) -> None:
        """See `IndexStore`; copies on this machine that are in use stay, as do their files."""
        for name in list_sizes(self.url):
            if name in kept or not DIRECTORY_NAME.fullmatch(name):
                continue
            url = join(self.url, name)
            with suppress(RunError, FileError):  # what a removed passage has left goes here too
                self._cache.drop_directory(key_of(read_summary(join(url, SUMMARY), name)))
            remove(join(url, SUMMARY))  # first: without it the rest isn't a part any more
            remove_directory(url)
        shutil.rmtree(self.scratch(), ignore_errors=True)


@contextmanager
def only_build(place: IndexStore) -> Iterator[None]:
    """Keeps two builds from removing each other's parts; the lock goes with the process.

    Of a remote index only builds on the same machine see each other.
    """
    with open(place.scratch() / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{place.url}: another `polyprag index` is building it; wait until it has ended"
            ) from error
        yield

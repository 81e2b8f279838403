"""Makes an index's parts where they aren't there: in this process, or by tasks of other workers.

A part is named for what it is made from, so it has its name before it is made, whoever makes it;
one that is there already is kept.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from polyprag.retrieval.building.progress import BuildProgress
from polyprag.retrieval.parts.index_store import IndexStore, index_store_of
from polyprag.retrieval.parts.part import SUMMARY, IndexPart, StoredFile, directory_name
from sharding.storage.files import sha256_of, write_json
from sharding.task_pool import TaskPool

LAYOUT = 4  # of the parts' files; raise it with any change, so that old parts are rebuilt


def keep_or_make(
    store: IndexStore, name: str, *, made_from: Mapping[str, Any], write: Callable[[Path], None]
) -> IndexPart:
    """Returns the part made from something: the one there if it is sound, else a new one.

    Args:
        store: RUN/index.
        name: what kind of part it is.
        made_from: JSON values that decide the part's contents.
        write: fills an empty directory.
    """
    directory = directory_name(name, made_from)
    found = store.finished(directory)
    if found is not None:
        return found
    temporary = store.scratch() / f".{directory}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        write(temporary)
        for path in temporary.iterdir():
            _sync(path)
        files = {
            path.name: StoredFile(path.stat().st_size, sha256_of(path))
            for path in sorted(temporary.iterdir())
        }
        part = IndexPart(directory, files)
        write_json(temporary / SUMMARY, msgspec.to_builtins(part))
        store.keep(temporary, part)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(temporary.parent)
    return part


@dataclass(frozen=True, slots=True)
class IndexLocation:
    """Where RUN's index lies and what copies of remote files may take, for any process."""

    run_dir: str
    cache_dir: str | None
    cache_gb: float

    def open(self) -> IndexStore:
        """RUN/index, as this process uses it."""
        return index_store_of(self.run_dir, cache_dir=self.cache_dir, cache_gb=self.cache_gb)


class Work(Protocol):
    """Fills a part's directory."""

    def write(self, directory: Path, store: IndexStore) -> None:
        """Writes the part's files into an empty directory; other parts are read from `store`."""


@dataclass(frozen=True, slots=True)
class PartTask:
    """A part that a worker is to make unless it is there.

    Attributes:
        location: of RUN/index.
        name: what kind of part it is.
        made_from: JSON values that decide its contents.
        work: makes it.
        num_passages: that are done with it, for the progress.
    """

    location: IndexLocation
    name: str
    made_from: Mapping[str, Any]
    work: Work
    num_passages: int

    @property
    def directory(self) -> str:
        """The name that the part has or will have."""
        return directory_name(self.name, self.made_from)


def make_part(task: PartTask) -> IndexPart:
    """Does a task; runs in any process."""
    store = task.location.open()
    return keep_or_make(
        store,
        task.name,
        made_from=task.made_from,
        write=lambda directory: task.work.write(directory, store),
    )


class PartMaker:
    """Makes the parts of an index that is being built.

    Attributes:
        store: RUN/index.
        progress: of the build; advanced by the passages that a part is done with.
    """

    def __init__(self, store: IndexStore, location: IndexLocation, progress: BuildProgress) -> None:
        """Makes nothing yet.

        Args:
            store: RUN/index.
            location: the same, for tasks.
            progress: see above.
        """
        self.store, self.progress, self._location = store, progress, location

    def found(self, name: str, **made_from: Any) -> IndexPart | None:
        """Returns a part if it is there.

        Args:
            name: what kind of part it is.
            made_from: JSON values that decide its contents.
        """
        return self.store.finished(directory_name(name, _with_layout(made_from)))

    def make(self, name: str, write: Callable[[Path], None], **made_from: Any) -> IndexPart:
        """Returns a part that this process makes unless it is there.

        Args:
            name: what kind of part it is.
            write: fills an empty directory.
            made_from: JSON values that decide its contents.
        """
        return keep_or_make(self.store, name, made_from=_with_layout(made_from), write=write)

    def task(self, name: str, work: Work, *, num_passages: int, **made_from: Any) -> PartTask:
        """Returns the task of making a part; see `PartTask`."""
        return PartTask(self._location, name, _with_layout(made_from), work, num_passages)

    def make_all(self, tasks: Sequence[PartTask], pool: TaskPool) -> list[IndexPart]:
        """Returns the parts of all tasks, made in parallel where they aren't there."""
        made = []
        for task, part in zip(tasks, pool.map(make_part, tasks), strict=True):
            self.progress.advance(task.num_passages)
            made.append(part)
        return made


def _with_layout(made_from: dict[str, Any]) -> dict[str, Any]:
    return {"layout": LAYOUT, **made_from}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

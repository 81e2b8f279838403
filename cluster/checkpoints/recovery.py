"""Going back to the checkpoint before the last where files of the last are damaged.

What only the last one names can be mended so, and is looked at before training goes on: its
manifest, the sizes of all files, the checksums of its experts and of rows that it doesn't share
with the one before. Rows that both share are checked as they are read.
"""

import logging
from collections.abc import Callable, Sequence
from itertools import chain

import msgspec
from torch import distributed

from cluster.checkpoints.group import WorkerGroup
from cluster.checkpoints.manifest import (
    MANIFEST_NAME,
    CheckpointManifest,
    StateFile,
    load_previous,
)
from cluster.parallel.collectives import bytes_of_first, gather_json, run_on_all_or_raise
from cluster.record.events import record
from polyprag.errors import RunError
from sharding.storage.decoding import decode
from sharding.storage.files import join, list_sizes, sha256_of
from sharding.storage.versioned import Stored

_LOG = logging.getLogger(__name__)


class _Both(Stored, frozen=True):
    """The last checkpoint and the one before it."""

    newest: CheckpointManifest | None
    previous: CheckpointManifest | None


def _nobody_else() -> None:
    """Checks nothing: the caller's lease keeps others away."""


def recover(run_dir: str, *, check: Callable[[], None] = _nobody_else) -> None:
    """Goes back one checkpoint where the last one's manifest, sizes or experts show damage.

    It says so in the log and in the run's events.

    Args:
        run_dir: whose checkpoints nobody else may be writing.
        check: is called right before something is changed, and raises if another group trains now.

    Raises:
        RunError: the one before the last is damaged, too.
    """
    directory = _directory(run_dir)
    previous = load_previous(directory)
    if previous is None:
        return
    try:
        newest = CheckpointManifest.load(directory)
        wrong = _first_problem(directory, newest)
    except RunError:
        wrong = f"{join(directory, MANIFEST_NAME)}: can't be read"
    if wrong is not None:
        also = _first_problem(directory, previous)
        _go_back(run_dir, previous, wrong, also=also, check=check)


def recover_together(group: WorkerGroup) -> CheckpointManifest | None:
    """Does what `recover` does, and shares the checksums of rows among the workers.

    Every worker of a process group must call it.

    Args:
        group: that the workers are; one that others have replaced changes nothing.

    Returns:
        The checkpoint that all go on from, the same on every worker; None where there is none.

    Raises:
        PolypragError: on every worker, when no checkpoint is whole or one can't be read.
    """
    run_dir = group.run_dir
    both = _seen_by_first(group)
    newest, previous = both.newest, both.previous
    if newest is None or previous is None:
        return newest
    wrong = _first_damaged(run_dir, _rows_without(newest, previous))
    if wrong is None:
        return newest
    also = _first_damaged(run_dir, _rows_without(previous, newest))

    def go_back() -> None:
        if distributed.get_rank() == 0:
            also_sizes = _first_problem(_directory(run_dir), previous)
            _go_back(run_dir, previous, wrong, also=also or also_sizes, check=group.check)

    run_on_all_or_raise(go_back)
    return previous


def _directory(run_dir: str) -> str:
    return join(run_dir, "checkpoints")


def _seen_by_first(group: WorkerGroup) -> _Both:
    """Returns both manifests as worker 0 sees them.

    Another machine's view of a shared file system may lag behind what worker 0 has just written.
    """
    directory = _directory(group.run_dir)

    def read() -> bytes:
        if distributed.get_rank() != 0:
            return b""
        recover(group.run_dir, check=group.check)
        both = _Both(CheckpointManifest.load(directory), load_previous(directory))
        return msgspec.json.encode(both)

    return decode(bytes_of_first(run_on_all_or_raise(read)), _Both)


def _rows_without(those: CheckpointManifest, without: CheckpointManifest) -> list[StateFile]:
    """Returns the files of rows that a checkpoint has, and another hasn't."""
    others = set(without.rows.values())
    return [entry for _, entry in sorted(those.rows.items()) if entry not in others]


def _first_damaged(run_dir: str, entries: Sequence[StateFile]) -> str | None:
    """Returns what is wrong with the first file of some; each worker reads its share of them."""
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    mine = entries[rank::world_size]

    def first() -> str | None:
        found = (_damage(_directory(run_dir), entry) for entry in mine)
        return next(filter(None, found), None)

    return next(filter(None, gather_json(run_on_all_or_raise(first))), None)


def _damage(directory: str, entry: StateFile) -> str | None:
    url = join(directory, entry.file)
    if sha256_of(url) == entry.sha256:
        return None
    return f"{url}: SHA-256 differs from the manifest's"


def _first_problem(directory: str, manifest: CheckpointManifest | None) -> str | None:
    """Returns the first file that isn't there as the manifest says.

    By name and size, and the experts by their checksum.
    """
    if manifest is None:
        return f"{join(directory, MANIFEST_NAME)}: no such file"
    sizes = list_sizes(directory)
    for entry in chain([manifest.experts], manifest.rows.values()):
        size = sizes.get(entry.file)
        url = join(directory, entry.file)
        if size is None:
            return f"{url}: no such file"
        if size != entry.num_bytes:
            return f"{url}: has {size} bytes where the manifest says {entry.num_bytes}"
    return _damage(directory, manifest.experts)


def _go_back(
    run_dir: str,
    previous: CheckpointManifest,
    wrong: str,
    *,
    also: str | None,
    check: Callable[[], None],
) -> None:
    """Makes the checkpoint before the last the last one.

    Args:
        run_dir: of the run.
        previous: the checkpoint before the last.
        wrong: what is wrong with the last.
        also: what is wrong with the one before, if anything is.
        check: see `recover`.

    Raises:
        RunError: something is; nothing is changed then.
    """
    directory = _directory(run_dir)
    if also is not None:
        raise RunError(
            f"{wrong}; and of the checkpoint before it, {also}: copy the files from elsewhere, or "
            f"delete {directory} to train from the start"
        )
    check()
    previous.save(directory)
    told = f"{wrong}; went back to the checkpoint before it, of step {previous.step}"
    _LOG.warning("%s", told)
    record(run_dir, "recovered", detail=told)

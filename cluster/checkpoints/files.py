"""The files of a checkpoint's rows, without what trains them: quick to import."""

import logging

import numpy as np

from cluster.checkpoints.manifest import (
    MANIFEST_NAME,
    CheckpointManifest,
    RowsFile,
    load_previous,
)
from cluster.record.events import record
from polyprag.errors import RunError
from sharding.rows.file import load_rows, save_rows
from sharding.rows.part import RowPartition
from sharding.storage.files import TEMPORARY_NAME, join, list_names, list_sizes, remove

_LOG = logging.getLogger(__name__)


def save_row_partition(
    directory: str, part: RowPartition, step: int, *, variant: str = "", durable: bool = True
) -> RowsFile:
    """Writes a partition's rows and moments as they are after a global step.

    Args:
        directory: `RUN/checkpoints`.
        part: what to write.
        step: global steps done.
        variant: sets the file's name apart from that of other contents at the same step.
        durable: as of `save_rows`.
    """
    name = f"rows-{part.index:05d}-step-{step:08d}{variant}.safetensors"
    sha256, num_bytes = save_rows(join(directory, name), part, durable=durable)
    norms = np.linalg.norm(part.rows.reshape(len(part.rows), -1), axis=1)
    return RowsFile(
        name,
        sha256,
        num_bytes,
        step=step,
        num_rows=len(part.rows),
        updates=int(part.steps.sum(dtype=np.int64)),
        untrained=int((part.steps == 0).sum()),
        mean_norm=float(norms.mean()),
    )


def load_row_partition(directory: str, entry: RowsFile) -> RowPartition:
    """Returns a partition's rows and moments.

    Raises:
        FileError: the file is missing or damaged.
    """
    return load_rows(join(directory, entry.file), sha256=entry.sha256)


def recover(run_dir: str) -> None:
    """Goes back to the checkpoint before the last where files of the last are missing or cut short.

    The log and the run's events tell of it.

    Args:
        run_dir: whose checkpoints nobody else may be writing.
    """
    if went_back := _go_back(join(run_dir, "checkpoints")):
        _LOG.warning("%s", went_back)
        record(run_dir, "recovered", detail=went_back)


def _go_back(directory: str) -> str | None:
    """Returns what was wrong with the last checkpoint, and what was done.

    None where nothing was.
    """
    previous = load_previous(directory)
    if previous is None:
        return None
    try:
        newest = CheckpointManifest.load(directory)
        wrong = _first_problem(directory, newest)
    except RunError:
        wrong = f"{join(directory, MANIFEST_NAME)}: can't be read"
    if wrong is None or _first_problem(directory, previous) is not None:
        return None
    previous.save(directory)
    return f"{wrong}; went back to the checkpoint before it, of step {previous.step}"


def _first_problem(directory: str, manifest: CheckpointManifest | None) -> str | None:
    """Returns the first file that isn't there as the manifest says, by name and size."""
    if manifest is None:
        return f"{join(directory, MANIFEST_NAME)}: no such file"
    sizes = list_sizes(directory)
    for entry in (manifest.experts, *manifest.rows.values()):
        size = sizes.get(entry.file)
        url = join(directory, entry.file)
        if size is None:
            return f"{url}: no such file"
        if size != entry.num_bytes:
            return f"{url}: has {size} bytes where the manifest says {entry.num_bytes}"
    return None


def remove_unnamed(directory: str, *manifests: CheckpointManifest | None) -> None:
    """Deletes the state files of a directory that none of its manifests names."""
    keep = {name for manifest in manifests if manifest for name in manifest.names()}
    for name in list_names(directory):
        is_ours = name.endswith(".safetensors") or TEMPORARY_NAME.fullmatch(name)
        if is_ours and name not in keep:
            remove(join(directory, name))

"""The files of a checkpoint's rows, without what trains them: quick to import."""

import numpy as np

from cluster.checkpoints.manifest import CheckpointManifest, RowsFile
from sharding.rows.file import load_rows, save_rows
from sharding.rows.part import RowPartition
from sharding.storage.files import TEMPORARY_NAME, join, list_names, remove


def save_row_partition(
    directory: str, part: RowPartition, step: int, *, variant: str, durable: bool = True
) -> RowsFile:
    """Writes a partition's rows and moments as they are after a global step.

    Args:
        directory: `RUN/checkpoints`.
        part: what to write.
        step: global steps done.
        variant: sets the file's name apart from that of other contents at the same step: who
            writes it, or what it is made of.
        durable: as of `save_rows`.
    """
    name = f"rows-{part.index:05d}-step-{step:08d}-{variant}.safetensors"
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


def remove_unnamed(directory: str, *manifests: CheckpointManifest | None) -> None:
    """Deletes the state files of a directory that none of its manifests names."""
    keep = {name for manifest in manifests if manifest for name in manifest.names()}
    for name in list_names(directory):
        is_ours = name.endswith(".safetensors") or TEMPORARY_NAME.fullmatch(name)
        if is_ours and name not in keep:
            remove(join(directory, name))

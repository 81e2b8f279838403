"""Saving and restoring training state: incremental, free of the world size, safetensors only.

Experts are gathered from ZeRO and written once, by worker 0. Each worker writes the partitions
whose rows it changed since the last checkpoint, under new names. The manifest that names every
file with its checksum comes last; files that it no longer names go after it is durable.
"""

import hashlib
from dataclasses import asdict
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, distributed

from cluster.checkpoint_manifest import MANIFEST_NAME, CheckpointManifest, StateFile
from cluster.collectives import gather_json
from cluster.engine import ExpertEngine
from cluster.worker_rows import WorkerRows
from polyprag.errors import RunError
from sharding.files import atomic_write, join, list_names, read_bytes, remove
from sharding.plan import Cursor
from sharding.rows import RowPartition, load_rows, save_rows


def save_checkpoint(
    directory: str,
    *,
    engine: ExpertEngine,
    rows: WorkerRows,
    step: int,
    cursor: Cursor,
    identity: dict[str, Any],
    previous: CheckpointManifest | None,
) -> CheckpointManifest:
    """Makes the state after a step durable; every worker must call it.

    Args:
        directory: `RUN/checkpoints`.
        engine: holds the experts.
        rows: this worker's; their changes count as saved afterwards.
        step: global steps done.
        cursor: where the data goes on.
        identity: of the run.
        previous: the manifest of the last checkpoint, whose unchanged partitions stay.

    Returns:
        The new manifest.
    """
    mine = {}
    for part in rows.take_dirty():
        name = f"rows-{part.index:05d}-step-{step:08d}.safetensors"
        sha256, num_bytes = save_rows(join(directory, name), part)
        mine[str(part.index)] = asdict(StateFile(name, sha256, num_bytes))
    state = engine.export_state()
    experts = None
    if distributed.get_rank() == 0:
        experts = asdict(_save_experts(directory, state, step=step))
    gathered = gather_json({"rows": mine, "experts": experts})

    saved = dict(previous.rows) if previous else {}
    for worker in gathered:
        saved |= {int(index): StateFile(**entry) for index, entry in worker["rows"].items()}
    manifest = CheckpointManifest(
        step=step,
        cursor=cursor,
        world_size=distributed.get_world_size(),
        identity=identity,
        experts=StateFile(**gathered[0]["experts"]),
        rows=dict(sorted(saved.items())),
    )
    if distributed.get_rank() == 0:
        manifest.save(directory)
        remove_unnamed(directory, manifest)
    distributed.barrier()
    return manifest


def _save_experts(directory: str, state: dict[str, Tensor], *, step: int) -> StateFile:
    data = save_tensors(state)
    name = f"experts-step-{step:08d}.safetensors"
    with atomic_write(join(directory, name)) as file:
        file.write(data)
    return StateFile(name, hashlib.sha256(data).hexdigest(), len(data))


def remove_unnamed(directory: str, manifest: CheckpointManifest) -> None:
    """Deletes the checkpoint files that a durable manifest doesn't name."""
    keep = manifest.names() | {MANIFEST_NAME}
    for name in list_names(directory):
        if name not in keep:
            remove(join(directory, name))


def load_expert_state(directory: str, checkpoint: CheckpointManifest) -> dict[str, Tensor]:
    """The experts and their moments, as `ExpertEngine.import_state` takes them.

    Raises:
        RunError: the file is damaged.
    """
    url = join(directory, checkpoint.experts.file)
    data = read_bytes(url)
    remedy = f"the checkpoint is damaged: copy it again, or delete {directory} to train anew"
    if hashlib.sha256(data).hexdigest() != checkpoint.experts.sha256:
        raise RunError(f"{url}: SHA-256 differs from the manifest's; {remedy}")
    try:
        return dict(load_tensors(data))
    except SafetensorError as error:
        raise RunError(f"{url}: not a safetensors file ({error}); {remedy}") from error


def load_row_partition(
    directory: str, checkpoint: CheckpointManifest, index: int
) -> RowPartition | None:
    """A partition's rows and moments; None where it has not been trained yet."""
    entry = checkpoint.rows.get(index)
    return load_rows(join(directory, entry.file), sha256=entry.sha256) if entry else None

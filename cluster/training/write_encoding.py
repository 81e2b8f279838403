"""The last act of a training: the encoding is written, which everything after it reads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from torch import Tensor, distributed

from cluster.parallel.collectives import gather_json, run_on_all_or_raise
from cluster.training.start import Training
from polyprag.encoding.edit import remove_replaced
from polyprag.encoding.manifest import RowsPart, Trained
from polyprag.encoding.reader import encoding_dir, save_encoding
from sharding.rows.file import save_rows
from sharding.storage.files import join
from sharding.stream.plan import partitions_of_worker

_THREADS = 4  # that read and write rows; one partition each is in memory


def write_encoding(training: Training, *, step: int) -> None:
    """Writes `RUN/encoding` once the last checkpoint is durable.

    Every worker must call it, and writes the rows that it owns. Files get names with the group of
    workers in them, so an encoding that is there stays whole until the new manifest replaces the
    old, and a group that wakes up late puts nothing else where the manifest promises these.

    Args:
        training: whose phase is trained.
        step: global steps done.
    """
    training.beat("the last checkpoint")
    training.checkpoints.close()
    directory = encoding_dir(training.run.directory)
    written = run_on_all_or_raise(lambda: _write_rows(training, directory))
    state = training.engine.export_state()
    gathered = [entry for worker in gather_json(written) for entry in worker]
    experts = {name: tensor for name, tensor in state.items() if ".exp_avg" not in name}
    parts = sorted((RowsPart(**entry) for entry in gathered), key=lambda part: part.index)
    run_on_all_or_raise(lambda: _save(training, directory, experts, parts, step=step))
    training.checkpoints.drop_previous()


def _save(
    training: Training,
    directory: str,
    experts: dict[str, Tensor],
    parts: Sequence[RowsPart],
    *,
    step: int,
) -> None:
    """Names what all workers have written, on worker 0, and deletes what was there before."""
    if distributed.get_rank() != 0:
        return
    run = training.run
    run.group.check()
    manifest = save_encoding(
        directory,
        config=run.config,
        expert_state=experts,
        base_model=run.base_model,
        num_sites=run.pool.num_sites,
        parts=parts,
        trained=Trained(steps=step, epochs=run.plan.first_epoch + run.plan.epochs),
        variant=f"-{run.group.name}",
        check=run.group.check,
    )
    run.group.check()
    remove_replaced(directory, manifest)


def _write_rows(training: Training, directory: str) -> list[dict[str, Any]]:
    """Writes the rows of this worker's partitions; returns their `RowsPart`s as JSON values."""
    partitions = training.run.corpus.manifest.partitions
    mine = partitions_of_worker(
        distributed.get_rank(),
        world_size=distributed.get_world_size(),
        num_partitions=len(partitions),
        num_lanes=training.run.plan.num_lanes,
    )

    def write(index: int) -> dict[str, Any]:
        partition = partitions[index]
        name = f"rows/part-{index:05d}-{training.run.group.name}.safetensors"
        training.beat(f"partition {index} of the encoding")
        rows = training.table.read(index)
        sha256, _ = save_rows(join(directory, name), rows, moments=False)
        part = RowsPart(index, partition.first_id, partition.num_passages, name, sha256, joint=True)
        return msgspec.structs.asdict(part)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(write, mine))

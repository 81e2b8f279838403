"""The routing rows that a worker trains: where each partition's come from and go to."""

from functools import partial

import numpy as np

from cluster.checkpoints.files import load_row_partition, save_row_partition
from cluster.checkpoints.manifest import CheckpointManifest, RowsFile, load_previous
from cluster.training.load import LoadedRun
from polyprag.encoding.reader import encoding_dir
from polyprag.errors import FileError, RunError, StorageError
from polyprag.method.rows.optimizer import RowAdam
from sharding.rows.file import load_rows
from sharding.rows.part import RowPartition, init_rows
from sharding.rows.table import RowTable
from sharding.storage.files import join


def open_row_table(run: LoadedRun) -> RowTable[RowsFile]:
    """Returns this worker's table, which reads a partition's rows when training comes to it."""
    train = run.config.train
    return RowTable(
        run.corpus.manifest.partitions,
        shape=(run.pool.num_sites, run.pool.num_experts),
        load=partial(_load_rows, run),
        save=partial(  # Checkpointer syncs
            save_row_partition, run.checkpoints_dir, variant=run.group.name, durable=False
        ),
        optimizer=RowAdam(
            lr=train.rows_lr, betas=(train.beta1, train.beta2), grad_clip=train.rows_grad_clip
        ),
    )


def _load_rows(run: LoadedRun, index: int, latest: RowsFile | None) -> RowPartition:
    """Returns a partition's rows.

    They are those that this worker wrote last, or those of the checkpoint, or those that `add`
    trained; or they are drawn at random.
    """
    saved = run.checkpoint.rows if run.checkpoint is not None else {}
    entry = latest or saved.get(index)
    if entry is not None:
        part = _load_saved(run.checkpoints_dir, entry)
        return _of_partition(run, index, part, join(run.checkpoints_dir, entry.file))
    second_moment = run.config.train.rows_second_moment
    added = run.added.get(index)
    if added is not None:
        url = join(encoding_dir(run.directory), added.file)
        part = load_rows(url, sha256=added.sha256, second_moment=second_moment)
        return _of_partition(run, index, part, url)
    partition = run.corpus.manifest.partitions[index]
    part = init_rows(
        partition,
        sites=run.pool.num_sites,
        experts=run.pool.num_experts,
        std=run.config.router.init_std,
        seed=run.config.train.seed,
        second_moment=second_moment,
    )
    removed = np.array(run.corpus.manifest.removed_in(partition), np.int64)
    part.rows[removed - partition.first_id] = 0
    return part


def _load_saved(directory: str, entry: RowsFile) -> RowPartition:
    """Returns a partition's rows from a file that a worker has written.

    Raises:
        StorageError: it is damaged, and workers that start again go on without it.
        RunError: it is damaged, and every checkpoint has it.
    """
    try:
        return load_row_partition(directory, entry)
    except StorageError:
        raise
    except FileError as error:
        saved = (CheckpointManifest.load(directory), load_previous(directory))
        if all(entry in manifest.rows.values() for manifest in saved if manifest is not None):
            raise RunError(
                f"{error}; every checkpoint has it, so without a copy delete {directory} to train "
                "from the start"
            ) from error
        raise StorageError(f"{error}; the workers go back to a checkpoint without it") from error


def _of_partition(run: LoadedRun, index: int, part: RowPartition, url: str) -> RowPartition:
    """Returns rows that were read, if they are those of a partition.

    Raises:
        FileError: they are of other passages or of another shape.
    """
    partition = run.corpus.manifest.partitions[index]
    expected = (partition.num_passages, run.pool.num_sites, run.pool.num_experts)
    if part.rows.shape != expected or part.first_id != partition.first_id:
        raise FileError(
            f"{url}: rows of shape {part.rows.shape} from passage {part.first_id} on, where "
            f"{expected} from {partition.first_id} on are expected: it is of another run"
        )
    return part

"""Changing a checkpoint that isn't being trained: rows of removed passages are forgotten."""

import hashlib
from collections.abc import Iterable

import msgspec
import numpy as np

from cluster.checkpoints.files import load_row_partition, remove_unnamed, save_row_partition
from cluster.checkpoints.manifest import PREVIOUS_NAME, CheckpointManifest
from polyprag.errors import RunError
from sharding.corpus.manifest import CorpusManifest
from sharding.rows.part import forget
from sharding.storage.files import join, remove


def forget_checkpoint_rows(run_dir: str, ids: Iterable[int]) -> None:
    """Zeroes rows and moments of passages in `RUN/checkpoints`, if there are any.

    Files that hold them are written anew, then the manifest, then the old ones are deleted; the
    checkpoint then belongs to the corpus as it is now. Where that is done already, nothing happens.

    Args:
        run_dir: whose corpus no longer has the passages.
        ids: of the passages.

    Raises:
        RunError, CorpusError, FileError: the checkpoint or the corpus is damaged.
    """
    directory = join(run_dir, "checkpoints")
    checkpoint = CheckpointManifest.load(directory)
    if checkpoint is None:
        return
    partitions = CorpusManifest.load(join(run_dir, "corpus")).partitions
    first_ids = np.array([part.first_id for part in partitions], np.int64)
    wanted = np.unique(np.fromiter(ids, np.int64))
    owners = np.searchsorted(first_ids, wanted, side="right") - 1
    rows = dict(checkpoint.rows)
    for index in np.unique(owners).tolist():
        entry = rows.get(index)
        if entry is None:
            continue
        part = load_row_partition(directory, entry)
        mine = wanted[owners == index]
        if forget(part, mine.tolist()):
            # Named for what it is made of, so that a stopped call leaves no second file, and a
            # late one can't write other bytes under the name.
            made_of = hashlib.sha256(entry.sha256.encode() + mine.astype("<i8").tobytes())
            variant = made_of.hexdigest()[:12]
            rows[index] = save_row_partition(directory, part, entry.step, variant=variant)
    num_partitions = len(checkpoint.identity["corpus"])
    identity = checkpoint.identity | {
        "corpus": [part.sha256 for part in partitions[:num_partitions]]
    }
    renewed = msgspec.structs.replace(checkpoint, rows=rows, identity=identity)
    if renewed != checkpoint:
        renewed.save(directory)
    remove(join(directory, PREVIOUS_NAME))  # which has the rows still
    remove_unnamed(directory, renewed)


def check_finished(run_dir: str) -> None:
    """Makes sure that no training is half done, whose data mustn't change before it ends.

    Raises:
        RunError: it is; says how to end it.
    """
    directory = join(run_dir, "checkpoints")
    checkpoint = CheckpointManifest.load(directory)
    if checkpoint is not None and not checkpoint.is_finished:
        verb = "encode" if len(checkpoint.phases) == 1 else "train-more"
        raise RunError(
            f"{run_dir} is trained to step {checkpoint.step} of {checkpoint.phase.last_step}, and "
            f"its passages can't change before that is done: run `polyprag {verb} {run_dir}` to "
            f"its end first, or delete {directory} to train from the start"
        )

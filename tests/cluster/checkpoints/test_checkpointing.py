"""Checkpoints made while training goes on: what a crash leaves, and who can go on from it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from cluster.checkpoints.edit import forget_checkpoint_rows
from cluster.checkpoints.manifest import CheckpointManifest
from cluster.record.events import read_events
from polyprag.augment.corpus import counts_of
from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding
from polyprag.errors import PolypragError
from sharding.change.removal import remove_passages
from sharding.corpus.manifest import CorpusManifest
from sharding.storage.lease import take

pytestmark = pytest.mark.slow
Train = Callable[..., None]
Spawn = Callable[..., None]
Straight = Callable[..., Any]


def checkpoint_of(run: Path) -> CheckpointManifest:
    checkpoint = CheckpointManifest.load(str(run / "checkpoints"))
    assert checkpoint is not None
    return checkpoint


def tensors_of(run: Path) -> dict[str, np.ndarray]:
    """Experts and rows of an encoding, and everything that a checkpoint names."""
    encoding = Encoding.load(run)
    tensors = {name: tensor.numpy() for name, tensor in encoding.expert_state().items()}
    tensors["rows"] = encoding.rows(np.arange(encoding.manifest.num_passages))
    for index, entry in checkpoint_of(run).rows.items():
        for name, array in load_file(run / "checkpoints" / entry.file).items():
            tensors[f"{index}.{name}"] = array
    return tensors


def assert_equal(left: Path, right: Path) -> None:
    ours, theirs = tensors_of(left), tensors_of(right)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def train_with_stuck_disk(run: Path, overrides: list[str], last: int, fatal_step: int) -> None:
    """Trains on storage that finishes no file of rows after a step; dies at a later one."""

    import cluster.checkpoints.files as checkpoint
    import cluster.training.loop as training
    from cluster.training.train_encoding import train_encoding

    save_rows, train_step = checkpoint.save_rows, training.train_step

    def stuck(url: str, *args: Any, **kwargs: Any) -> Any:
        if int(url.rpartition("-step-")[2].split("-")[0]) > last:
            threading.Event().wait()
        return save_rows(url, *args, **kwargs)

    def dying(*args: Any, step: int, **kwargs: Any) -> Any:
        if step == fatal_step:
            os._exit(0)
        return train_step(*args, step=step, **kwargs)

    checkpoint.save_rows = stuck
    training.train_step = dying  # type: ignore[assignment]
    train_encoding(str(run), load_config([], overrides))


def test_crash_in_the_midst_of_a_checkpoint_goes_on_from_the_one_before(
    workplace: Any, spawn: Spawn, train_workers: Train
) -> None:
    straight = workplace.copy("straight")
    settings = {"train__epochs": 2, "checkpoint__every_steps": 4}
    train_workers(straight, world_size=2, **settings)
    overrides = workplace.overrides(**settings)
    spawn(train_with_stuck_disk, workplace.run, overrides, 4, 9, world_size=2)
    assert checkpoint_of(workplace.run).step == 4  # that of step 8 was not complete
    names = {path.name for path in (workplace.run / "checkpoints").iterdir()}
    assert names > checkpoint_of(workplace.run).names() | {"manifest.json"}  # its files are there
    train_workers(workplace, world_size=2, **settings)
    assert workplace.losses() == straight.losses()
    assert_equal(workplace.run, straight.run)
    names = {path.name for path in (workplace.run / "checkpoints").iterdir()}
    assert names == checkpoint_of(workplace.run).names() | {"manifest.json"}


@pytest.mark.parametrize("damage", ["cut short", "a bit flipped"])
@pytest.mark.parametrize("what", ["experts", "rows"])
def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    workplace: Any, train_workers: Train, straight_run: Straight, what: str, damage: str
) -> None:
    settings = {"train__epochs": 2, "checkpoint__every_steps": 3}
    straight = straight_run(world_size=1, **settings)
    train_workers(workplace, world_size=1, die_at=8, **settings)
    newest = checkpoint_of(workplace.run)
    assert newest.step == 6
    dirty = [entry for entry in newest.rows.values() if entry.step > 3]
    file = workplace.run / "checkpoints" / (newest.experts if what == "experts" else dirty[0]).file
    data = bytearray(file.read_bytes())
    if damage == "cut short":
        data.pop()
    else:
        data[-1] ^= 1
    file.write_bytes(data)
    train_workers(workplace, world_size=1, **settings)
    assert workplace.losses() == straight.losses()
    assert_equal(workplace.run, straight.run)
    (told,) = [event for event in read_events(str(workplace.run)) if event.kind == "recovered"]
    assert file.name in told.detail and "of step 3" in told.detail


def train_on_damaged_rows(run: Path, overrides: list[str], error: str) -> None:
    from cluster.training.train_encoding import train_encoding

    with pytest.raises(PolypragError, match=error) as raised:
        train_encoding(str(run), load_config([], overrides))
    may_pass = "go back to" in str(raised.value)
    assert raised.value.exit_status == (75 if may_pass else 2)


def damage_before_reading(run: Path, overrides: list[str], name: str) -> None:
    """Trains while a file is damaged after the checksums were looked at, before it is read."""
    import cluster.training.train_encoding as training

    start = training.start_training

    def late(*args: Any, **kwargs: Any) -> Any:
        flip(run / "checkpoints" / name)
        return start(*args, **kwargs)

    training.start_training = late
    train_on_damaged_rows(run, overrides, "the workers go back to a checkpoint without it")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_rows_that_are_found_damaged_while_training_goes_on_make_the_group_go_back(
    workplace: Any, spawn: Spawn, train_workers: Train, straight_run: Straight
) -> None:
    settings = {"train__epochs": 2, "checkpoint__every_steps": 3}
    straight = straight_run(world_size=1, **settings)
    train_workers(workplace, world_size=1, die_at=8, **settings)
    newest = checkpoint_of(workplace.run)
    name = next(entry.file for entry in newest.rows.values() if entry.step == newest.step)
    spawn(damage_before_reading, workplace.run, workplace.overrides(**settings), name, world_size=1)
    assert checkpoint_of(workplace.run) == newest
    train_workers(workplace, world_size=1, **settings)  # as Ray would start them again
    assert workplace.losses() == straight.losses()
    assert_equal(workplace.run, straight.run)
    (told,) = [event for event in read_events(str(workplace.run)) if event.kind == "recovered"]
    assert name in told.detail


def test_damaged_rows_that_every_checkpoint_has_end_the_training_for_good(
    workplace: Any, spawn: Spawn, train_workers: Train
) -> None:
    settings = {"train__epochs": 2, "checkpoint__every_steps": 1, "data__microbatch": 8}
    train_workers(workplace, world_size=1, die_at=3, **settings)
    newest = checkpoint_of(workplace.run)
    before = CheckpointManifest.load(
        str(workplace.run / "checkpoints"), name="manifest-previous.json"
    )
    assert before is not None
    shared = [entry for entry in newest.rows.values() if entry in before.rows.values()]
    flip(workplace.run / "checkpoints" / shared[0].file)
    said = rf"{shared[0].file}.*every checkpoint has it.*delete .*checkpoints to train from"
    spawn(train_on_damaged_rows, workplace.run, workplace.overrides(**settings), said, world_size=1)


def train_with_full_disk(run: Path, overrides: list[str], rank: int) -> None:
    """Trains while one worker's disk takes no more rows."""
    from torch import distributed

    import cluster.checkpoints.files as checkpoint
    from cluster.training.train_encoding import train_encoding
    from polyprag.errors import FileError

    def full(url: str, *args: Any, **kwargs: Any) -> Any:
        raise FileError(f"{url}: can't be written: No space left on device; make room")

    if distributed.get_rank() == rank:
        checkpoint.save_rows = full
    with pytest.raises(Exception, match="No space left on device; make room"):
        train_encoding(str(run), load_config([], overrides))


def test_full_disk_of_one_worker_is_one_error_on_all_and_the_checkpoint_before_stays(
    workplace: Any, spawn: Spawn, train_workers: Train
) -> None:
    train_workers(workplace, world_size=2, die_at=8)
    before = checkpoint_of(workplace.run)
    spawn(train_with_full_disk, workplace.run, workplace.overrides(), 1, world_size=2)
    assert checkpoint_of(workplace.run) == before
    names = {path.name for path in (workplace.run / "checkpoints").iterdir()}
    assert names >= before.names()


def train_under_lease(run: Path, overrides: list[str], number: int) -> None:
    from cluster.training.train_encoding import train_encoding

    with pytest.raises(PolypragError, match="taken over"):
        train_encoding(str(run), load_config([], overrides), lease=number)


def test_workers_whose_run_was_taken_over_write_no_checkpoint(workplace: Any, spawn: Spawn) -> None:
    take(workplace.run / "lease", purpose="encode").close()
    with take(workplace.run / "lease", purpose="encode") as ours:
        spawn(
            train_under_lease, workplace.run, workplace.overrides(), ours.number - 1, world_size=2
        )
    assert not (workplace.run / "checkpoints" / "manifest.json").exists()
    assert not (workplace.run / "encoding").exists()


def test_checkpoint_of_four_workers_goes_on_with_one_two_and_three(
    workplace: Any, train_workers: Train
) -> None:
    settings = {"data__lanes": 4, "checkpoint__every_steps": 3}
    straight = workplace.copy("straight")
    train_workers(straight, world_size=1, **settings)
    train_workers(workplace, world_size=4, die_at=5, **settings)
    assert checkpoint_of(workplace.run).world_size == 4
    for world_size in (1, 2, 3):
        resumed = workplace.copy(f"with-{world_size}")
        train_workers(resumed, world_size=world_size, **settings)
        ours, theirs = resumed.losses(), straight.losses()
        np.testing.assert_allclose(ours[:8], theirs[:8], atol=1e-5)
        np.testing.assert_allclose(ours, theirs, atol=5e-4)


@pytest.mark.parametrize("second_moment", ["site", "row"])
def test_smaller_moments_are_saved_and_resumed_exactly(
    workplace: Any, train_workers: Train, second_moment: str
) -> None:
    settings = {
        "world_size": 1,
        "train__rows_second_moment": second_moment,
        "train__rows_grad_clip": 0.01,
    }
    straight = workplace.copy("straight")
    train_workers(straight, **settings)
    train_workers(workplace, die_at=8, **settings)
    train_workers(workplace, **settings)
    assert_equal(workplace.run, straight.run)
    entry = checkpoint_of(workplace.run).rows[0]
    shapes = {k: v.shape for k, v in load_file(workplace.run / "checkpoints" / entry.file).items()}
    n, sites, _ = shapes["rows"]
    assert shapes["exp_avg_sq"] == (n, sites if second_moment == "site" else 1, 1)


def train_more(run: Path, overrides: list[str], first_step: int, first_epoch: int) -> None:
    """One worker's second phase."""
    from cluster.training.train_encoding import train_encoding

    train_encoding(
        str(run), load_config([], overrides), first_step=first_step, first_epoch=first_epoch
    )


def test_train_more_goes_on_from_the_rows_and_experts_that_are_there(
    spawn: Spawn, straight_run: Straight, tmp_path: Path
) -> None:
    """Two phases of constant rates are one longer one, to the bit."""
    once = straight_run(world_size=1, train__epochs=2)
    workplace = straight_run(world_size=1).copy_to(tmp_path / "run")
    first = checkpoint_of(workplace.run)
    assert first.is_finished
    spawn(
        train_more, workplace.run, workplace.overrides(train__epochs=1), first.step, 1, world_size=1
    )
    assert workplace.losses() == once.losses()
    assert_equal(workplace.run, once.run)
    saved = checkpoint_of(workplace.run)
    assert [(p.first_step, p.last_step, p.first_epoch, p.epochs) for p in saved.phases] == [
        (0, first.step, 0, 1),
        (first.step, 2 * first.step, 1, 1),
    ]
    trained = Encoding.load(workplace.run).manifest.trained
    assert (trained.steps, trained.epochs) == (2 * first.step, 2)


def test_removed_passages_leave_the_checkpoint_which_then_goes_on(
    spawn: Spawn, straight_run: Straight, tmp_path: Path
) -> None:
    workplace = straight_run(world_size=1).copy_to(tmp_path / "run")
    directory = workplace.run / "checkpoints"
    before = checkpoint_of(workplace.run)
    kept = {i: load_file(directory / e.file) for i, e in before.rows.items()}
    remove_passages(workplace.run / "corpus", [3, 4], count=counts_of)
    for _ in range(2):  # again: nothing is left to do
        forget_checkpoint_rows(str(workplace.run), [3, 4])
        after = checkpoint_of(workplace.run)
        for index, entry in after.rows.items():
            part = CorpusManifest.load(workplace.run / "corpus").partitions[index]
            ids = np.arange(part.first_id, part.first_id + part.num_passages)
            gone = np.isin(ids, [3, 4])
            for name, array in load_file(directory / entry.file).items():
                assert not array[gone].any()
                np.testing.assert_array_equal(array[~gone], kept[index][name][~gone])
            if not gone.any():
                assert entry == before.rows[index]
        assert {p.name for p in directory.iterdir()} == after.names() | {"manifest.json"}
    overrides = workplace.overrides(train__epochs=1)
    spawn(train_more, workplace.run, overrides, after.step, 1, world_size=1)
    rows = Encoding.load(workplace.run).rows(np.arange(11))
    assert not rows[[3, 4]].any() and (rows[[0, 1, 2, 5]] != 0).all()


def test_a_run_without_checkpoint_has_nothing_to_forget(workplace: Any) -> None:
    forget_checkpoint_rows(str(workplace.run), [0])
    assert not (workplace.run / "checkpoints").exists()

"""Of two groups of workers, the one that began last may write."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.checkpoints import group as groups
from cluster.checkpoints.files import load_row_partition, save_row_partition
from cluster.checkpoints.group import ReplacedError, WorkerGroup
from cluster.checkpoints.manifest import CheckpointManifest
from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding
from polyprag.errors import StorageError
from sharding.rows.part import RowPartition, without_moments
from sharding.storage.lease import LeaseError, take


def test_the_group_that_began_last_may_write(tmp_path: Path) -> None:
    first = WorkerGroup.begin(str(tmp_path), lease=None)
    first.check()
    second = WorkerGroup.begin(str(tmp_path), lease=None)
    second.check()
    with pytest.raises(ReplacedError, match="other workers have begun to train it"):
        first.check()
    assert first.name != second.name


@pytest.mark.parametrize("data", [None, b"", b'{"group": "\xff"}', b'{"group": "../../etc"}'])
def test_without_a_word_nobody_writes_and_another_start_mends_it(
    tmp_path: Path, data: bytes | None
) -> None:
    group = WorkerGroup.begin(str(tmp_path), lease=None)
    (file,) = (tmp_path / "lease").iterdir()
    file.unlink() if data is None else file.write_bytes(data)
    with pytest.raises(ReplacedError, match="doesn't say which workers") as raised:
        group.check()
    assert raised.value.exit_status == 75
    WorkerGroup.begin(str(tmp_path), lease=None).check()


def test_a_group_under_a_lease_that_is_lost_neither_begins_nor_writes(tmp_path: Path) -> None:
    with take(tmp_path / "lease", purpose="encode") as lease:
        group = WorkerGroup.begin(str(tmp_path), lease=lease.number)
        group.check()
    with take(tmp_path / "lease", purpose="encode") as newer:
        with pytest.raises(LeaseError, match="taken over"):
            group.check()
        current = WorkerGroup.begin(str(tmp_path), lease=newer.number)
        with pytest.raises(LeaseError, match="taken over"):
            WorkerGroup.begin(str(tmp_path), lease=lease.number)
        current.check()


def train_and_wake_up_late(run: Path, overrides: list[str]) -> None:
    """Sleeps at step 6 until another group has trained to the end; then it goes on."""
    import cluster.training.loop as training
    from cluster.training.train_encoding import train_encoding

    config, real = load_config([], overrides), training.train_step
    others: list[str] = []

    def asleep(*args: Any, step: int, **kwargs: Any) -> Any:
        if step == 6 and not others:
            others.append("have trained")
            train_encoding(str(run), config)
        return real(*args, step=step, **kwargs)

    training.train_step = asleep  # type: ignore[assignment]
    with pytest.raises(ReplacedError, match="other workers"):
        train_encoding(str(run), config)


@pytest.mark.slow
def test_workers_that_wake_up_late_change_nothing(
    workplace: Any, spawn: Any, straight_run: Any
) -> None:
    straight = straight_run(world_size=1)
    spawn(train_and_wake_up_late, workplace.run, workplace.overrides(), world_size=1)
    assert workplace.losses() == straight.losses()
    manifest, theirs = (
        CheckpointManifest.load(str(place.run / "checkpoints")) for place in (workplace, straight)
    )
    assert manifest is not None and theirs is not None and manifest.step == theirs.step
    for entry in manifest.rows.values():
        load_row_partition(str(workplace.run / "checkpoints"), entry)  # compares the checksum
    ours, expected = (Encoding.load(place.run) for place in (workplace, straight))
    assert (ours.rows(range(11)) == expected.rows(range(11))).all()
    tensors = ours.expert_state()
    for name, tensor in expected.expert_state().items():
        assert (tensors[name] == tensor).all()


def test_files_of_two_groups_have_other_names(tmp_path: Path) -> None:
    def rows(value: float) -> RowPartition:
        return without_moments(3, 6, np.full((2, 2, 2), value, np.float32), "row")

    promised = save_row_partition(str(tmp_path), rows(1), 8, variant="a" * 12)
    late = save_row_partition(str(tmp_path), rows(2), 8, variant="b" * 12)
    assert late.num_bytes == promised.num_bytes and late.sha256 != promised.sha256
    assert load_row_partition(str(tmp_path), promised).rows.max() == 1


def test_a_storage_that_fails_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = WorkerGroup.begin(str(tmp_path), lease=None)

    def fail(url: str) -> bytes:
        raise StorageError(f"{url}: the storage failed 6 times in a row")

    monkeypatch.setattr(groups, "read_bytes", fail)
    with pytest.raises(StorageError, match="failed 6 times"):
        group.check()

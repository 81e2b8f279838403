"""Going back to the checkpoint before the last where the last one's files are damaged."""

import hashlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cluster.checkpoints.files import remove_unnamed
from cluster.checkpoints.manifest import (
    MANIFEST_NAME,
    PREVIOUS_NAME,
    CheckpointManifest,
    RowsFile,
    StateFile,
)
from cluster.checkpoints.recovery import recover
from cluster.plan.phases import Phase
from cluster.record.events import read_events
from polyprag.errors import RunError
from sharding.stream.plan import Cursor

Both = tuple[CheckpointManifest, CheckpointManifest]


def saved(directory: Path, step: int, *, name: str, rows: list[int]) -> CheckpointManifest:
    """A checkpoint with its files; `rows` are the steps at which its partitions were written."""

    def file(name: str, size: int) -> dict[str, Any]:
        data = name.encode().ljust(size)
        (directory / name).write_bytes(data)
        return {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "num_bytes": size}

    numbers = {"num_rows": 1, "updates": 1, "untrained": 0, "mean_norm": 1.0}
    directory.mkdir(exist_ok=True)
    manifest = CheckpointManifest(
        step=step,
        cursor=Cursor(epoch=0, step=step, lanes=()),
        world_size=1,
        identity={},
        phases=(Phase(0, 9, 0, 1, 1),),
        experts=StateFile(**file(f"experts-step-{step}.safetensors", 30)),
        rows={
            index: RowsFile(**file(f"rows-{index}-step-{at}.safetensors", 40), step=at, **numbers)
            for index, at in enumerate(rows)
        },
    )
    manifest.save(str(directory), name=name)
    return manifest


@pytest.fixture
def both(tmp_path: Path) -> Both:
    """The checkpoint before the last, and the last; they share the rows of partition 2."""
    directory = tmp_path / "checkpoints"
    before = saved(directory, 4, name=PREVIOUS_NAME, rows=[4, 4, 3])
    return before, saved(directory, 8, name=MANIFEST_NAME, rows=[8, 8, 3])


def flip(file: Path) -> None:
    """Changes one bit; nothing else shows."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:10])


def current(run: Path) -> CheckpointManifest | None:
    return CheckpointManifest.load(str(run / "checkpoints"))


def test_whole_checkpoint_stays(tmp_path: Path, both: Both) -> None:
    recover(str(tmp_path))
    assert current(tmp_path) == both[1]
    assert read_events(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        *product(["experts", "manifest"], [Path.unlink, cut, flip]),
        *product(["rows"], [Path.unlink, cut]),  # of a flipped bit the workers' test is
    ],
)
def test_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, both: Both, what: str, damage: Callable[[Path], None]
) -> None:
    before, last = both
    name = {"experts": last.experts.file, "rows": last.rows[0].file}.get(what, MANIFEST_NAME)
    damage(tmp_path / "checkpoints" / name)
    recover(str(tmp_path))
    assert current(tmp_path) == before
    (told,) = read_events(str(tmp_path))
    assert told.kind == "recovered" and name in told.detail and "of step 4" in told.detail
    remove_unnamed(str(tmp_path / "checkpoints"), before, before)  # both manifests are of it now
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == before.names() | {MANIFEST_NAME, PREVIOUS_NAME}


def test_a_group_that_was_replaced_meanwhile_goes_back_to_nothing(
    tmp_path: Path, both: Both
) -> None:
    flip(tmp_path / "checkpoints" / both[1].experts.file)

    def check() -> None:
        raise RunError("other workers have begun")

    with pytest.raises(RunError, match="other workers"):
        recover(str(tmp_path), check=check)
    assert current(tmp_path) == both[1] and read_events(str(tmp_path)) == []


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
def test_without_a_whole_one_before_nothing_is_touched_and_both_are_named(
    tmp_path: Path, both: Both, damage: Callable[[Path], None]
) -> None:
    for manifest in both:
        damage(tmp_path / "checkpoints" / manifest.experts.file)
    with pytest.raises(RunError, match=r"experts-step-8.*experts-step-4.*delete .*checkpoints to"):
        recover(str(tmp_path))
    assert current(tmp_path) == both[1]
    (tmp_path / "checkpoints" / PREVIOUS_NAME).write_bytes(b"{")
    recover(str(tmp_path))  # reading the only one says what is wrong with it
    assert current(tmp_path) == both[1]


def test_files_of_both_checkpoints_are_kept(tmp_path: Path, both: Both) -> None:
    directory = tmp_path / "checkpoints"
    (directory / "rows-0-step-9.safetensors").write_bytes(b"left by a crash")
    remove_unnamed(str(directory), *both)
    left = {path.name for path in directory.iterdir()}
    assert left == both[0].names() | both[1].names() | {MANIFEST_NAME, PREVIOUS_NAME}


def recover_as_worker(run: Path, step: int | None, said: str) -> None:
    from torch import distributed

    from cluster.checkpoints.group import WorkerGroup
    from cluster.checkpoints.recovery import recover_together

    is_first = distributed.get_rank() == 0
    group = WorkerGroup(str(run), "0" * 12, None)
    if is_first:
        group = WorkerGroup.begin(str(run), lease=None)
    if step is None:
        with pytest.raises(RunError, match=said):
            recover_together(group)
        return
    found = recover_together(group)
    assert found is not None and found.step == step and found == current(run)


@pytest.mark.slow
@pytest.mark.parametrize("partition", [0, 1])  # which of the two workers reads it
def test_workers_go_back_together_where_a_bit_of_rows_is_flipped(
    tmp_path: Path, both: Both, spawn: Callable[..., None], partition: int
) -> None:
    directory, (before, last) = tmp_path / "checkpoints", both
    spawn(recover_as_worker, tmp_path, 8, "", world_size=2)
    flip(directory / last.rows[partition].file)
    spawn(recover_as_worker, tmp_path, 4, "", world_size=2)
    (told,) = read_events(str(tmp_path))
    assert last.rows[partition].file in told.detail
    last.save(str(directory))
    flip(directory / before.rows[0].file)  # none is whole any more
    said = rf"rows-{partition}-step-8.*rows-0-step-4.*delete .*checkpoints to train from the start"
    spawn(recover_as_worker, tmp_path, None, said, world_size=2)
    assert current(tmp_path) == last

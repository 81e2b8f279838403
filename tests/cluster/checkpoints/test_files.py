"""Going back to the checkpoint before the last where the last one's files are damaged."""

from pathlib import Path

import pytest

from cluster.checkpoints.files import _go_back, remove_unnamed
from cluster.checkpoints.manifest import (
    MANIFEST_NAME,
    PREVIOUS_NAME,
    CheckpointManifest,
    RowsFile,
    StateFile,
)
from cluster.plan.phases import Phase
from sharding.stream.plan import Cursor


def saved(directory: Path, step: int, *, name: str, rows: int) -> CheckpointManifest:
    """A checkpoint with its files; `rows` is the step at which its rows were written."""
    files = {f"experts-step-{step}.safetensors": 30, f"rows-0-step-{rows}.safetensors": 20}
    for file, size in files.items():
        (directory / file).write_bytes(bytes(size))
    experts, row_file = files
    manifest = CheckpointManifest(
        step=step,
        cursor=Cursor(epoch=0, step=step, lanes=()),
        world_size=1,
        identity={},
        phases=(Phase(0, 9, 0, 1, 1),),
        experts=StateFile(experts, "0" * 64, 30),
        rows={
            0: RowsFile(
                row_file, "1" * 64, 20, step=rows, num_rows=1, updates=1, untrained=0, mean_norm=1.0
            )
        },
    )
    manifest.save(str(directory), name=name)
    return manifest


@pytest.fixture
def both(tmp_path: Path) -> tuple[CheckpointManifest, CheckpointManifest]:
    """The checkpoint before the last, and the last; they share no file."""
    before = saved(tmp_path, 4, name=PREVIOUS_NAME, rows=4)
    return before, saved(tmp_path, 8, name=MANIFEST_NAME, rows=8)


def test_whole_checkpoint_stays(
    tmp_path: Path, both: tuple[CheckpointManifest, CheckpointManifest]
) -> None:
    assert _go_back(str(tmp_path)) is None
    assert CheckpointManifest.load(str(tmp_path)) == both[1]


@pytest.mark.parametrize("what", ["experts", "rows", "manifest", "gone"])
def test_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, both: tuple[CheckpointManifest, CheckpointManifest], what: str
) -> None:
    before, last = both
    name = {"experts": last.experts.file, "rows": last.rows[0].file}.get(what, MANIFEST_NAME)
    if what == "gone":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:10])
    told = _go_back(str(tmp_path))
    assert told is not None and name in told and "of step 4" in told
    assert CheckpointManifest.load(str(tmp_path)) == before
    remove_unnamed(str(tmp_path), before, before)  # both manifests are of it now
    left = {path.name for path in tmp_path.iterdir()}
    assert left == before.names() | {MANIFEST_NAME, PREVIOUS_NAME}


def test_without_a_whole_one_before_nothing_is_touched(
    tmp_path: Path, both: tuple[CheckpointManifest, CheckpointManifest]
) -> None:
    for manifest in both:
        (tmp_path / manifest.experts.file).write_bytes(b"")
    assert _go_back(str(tmp_path)) is None
    assert CheckpointManifest.load(str(tmp_path)) == both[1]
    (tmp_path / PREVIOUS_NAME).write_bytes(b"{")
    assert _go_back(str(tmp_path)) is None


def test_files_of_both_checkpoints_are_kept(
    tmp_path: Path, both: tuple[CheckpointManifest, CheckpointManifest]
) -> None:
    (tmp_path / "rows-0-step-9.safetensors").write_bytes(b"left by a crash")
    remove_unnamed(str(tmp_path), *both)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == both[0].names() | both[1].names() | {MANIFEST_NAME, PREVIOUS_NAME}

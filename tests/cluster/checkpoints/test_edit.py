"""What may be done to a run while its training is half done."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.checkpoints.edit import check_finished
from cluster.checkpoints.manifest import CheckpointManifest, StateFile
from cluster.plan.phases import Phase
from polyprag.cli import main
from polyprag.errors import RunError
from sharding.ingest.prepare import prepare
from sharding.stream.plan import Cursor, LaneCursor

FIRST, SECOND = Phase(0, 9, 0, 1, 1), Phase(9, 18, 1, 1, 1)


def save(run: Path, step: int, *phases: Phase) -> None:
    (run / "checkpoints").mkdir(exist_ok=True, parents=True)
    CheckpointManifest(
        step=step,
        cursor=Cursor(0, 0, (LaneCursor(0, 0),)),
        world_size=1,
        identity={"corpus": []},
        phases=phases,
        experts=StateFile("experts-step-00000001.safetensors", "b" * 64, 1),
    ).save(str(run / "checkpoints"))


def test_training_that_is_half_done_keeps_its_passages(tmp_path: Path) -> None:
    check_finished(str(tmp_path))  # nothing trained
    save(tmp_path, 9, FIRST)
    check_finished(str(tmp_path))
    save(tmp_path, 8, FIRST)
    with pytest.raises(RunError, match=r"step 8 of 9.*polyprag encode"):
        check_finished(str(tmp_path))
    save(tmp_path, 10, FIRST, SECOND)
    with pytest.raises(RunError, match=r"step 10 of 18.*polyprag train-more"):
        check_finished(str(tmp_path))


@pytest.mark.parametrize("arguments", [["remove", "RUN", "--ids", "0"], ["add", "RUN", "FILE"]])
def test_commands_change_nothing_meanwhile(tmp_path: Path, arguments: list[str]) -> None:
    run, file = tmp_path / "run", tmp_path / "passages.jsonl"
    file.write_text('{"id": "a", "title": "A", "text": "Ada was born in Oslo."}\n')
    prepare([str(file)], run / "corpus", partition_size=4)
    save(run, 3, FIRST)
    before = contents(run)
    names = {"RUN": str(run), "FILE": str(file)}
    done = CliRunner().invoke(main, [names.get(text, text) for text in arguments])
    assert done.exit_code == 2 and "can't change before that is done" in done.output
    assert contents(run) == before


def contents(run: Path) -> dict[Path, bytes]:
    """Of every file but the lease that each command takes."""
    files = (path for path in run.rglob("*") if path.is_file() and path.parent.name != "lease")
    return {path: path.read_bytes() for path in files}

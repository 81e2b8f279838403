"""`inspect` against the same figures worked out from the files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from cluster.checkpoints.files import load_row_partition, save_row_partition
from cluster.checkpoints.manifest import CheckpointManifest
from cluster.report.inspection import inspect_run
from cluster.report.inspection_text import inspection_text
from polyprag.cli import main
from polyprag.config import Config
from polyprag.encoding.reader import Encoding
from polyprag.errors import RunError


@pytest.fixture
def run(trained_run: tuple[Path, Config]) -> Path:
    return trained_run[0]


@pytest.mark.parametrize("count", [10**11, 10**12, 2**62])
def test_a_manifest_of_more_rows_than_the_file_has_is_refused(run: Path, count: int) -> None:
    path = run / "encoding" / "manifest.json"
    values = json.loads(path.read_text())
    values["parts"][-1]["num_passages"] = count
    values["num_passages"] = values["parts"][-1]["first_id"] + count
    path.write_text(json.dumps(values))
    shown = CliRunner().invoke(main, ["inspect", str(run), "--sample", "0"])
    assert shown.exit_code == 2 and "encoding" in shown.stderr, shown.output
    assert shown.stderr.splitlines()[-1].startswith("error: ")


def test_a_command_that_runs_out_of_memory_says_so(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: object, **__: object) -> None:
        np.empty(1 << 58, np.uint8)

    monkeypatch.setattr("cluster.report.inspection.inspect_run", greedy)
    shown = CliRunner().invoke(main, ["inspect", str(run)])
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error: not enough memory") and "verify" in shown.stderr


def entropy(shares: np.ndarray) -> float:
    return -sum(p * math.log(p) for p in shares.tolist() if p > 0) / math.log(len(shares))


def test_checkpoint_figures_are_those_of_its_files(run: Path) -> None:
    directory = str(run / "checkpoints")
    checkpoint = CheckpointManifest.load(directory)
    assert checkpoint is not None
    part = load_row_partition(directory, checkpoint.rows[1])
    part.steps[:] = 3
    part.steps[1] = 0
    newer = save_row_partition(directory, part, 5, variant="b")
    first = load_row_partition(directory, checkpoint.rows[0])
    older = save_row_partition(directory, first, 2, variant="b")
    changed = {name: getattr(checkpoint, name) for name in checkpoint.__struct_fields__} | {
        "rows": {0: older, 1: newer},
        "previous_step": 4,
    }
    CheckpointManifest(**changed).save(directory)
    facts = inspect_run(str(run), max_partitions=0).checkpoint
    assert facts is not None
    assert facts.partitions == (2, 3) and facts.dirty == 1
    assert facts.rows == 8 and facts.updates == 9 / 8
    assert facts.untrained == 5 and facts.untrained_ids == [0, 1, 2, 3, 5]
    assert facts.rows_without_file == 2
    files = [run / "checkpoints" / entry.file for entry in (older, newer)]
    assert facts.row_bytes == sum(path.stat().st_size for path in files)
    assert newer.mean_norm == pytest.approx(np.linalg.norm(part.rows, axis=(1, 2)).mean())


def test_norms_and_usage_are_those_of_the_rows(run: Path) -> None:
    facts = inspect_run(str(run), max_partitions=0).encoding
    assert facts is not None
    encoding = Encoding.load(run)
    rows = encoding.rows(np.arange(10))
    sizes = np.abs(rows) / 2  # linear gates: row / sqrt(K), K = 4
    shares = sizes / sizes.sum(-1, keepdims=True)
    of_sites = [entropy(shares[:, s].sum(0) / shares[:, s].sum()) for s in range(rows.shape[1])]
    assert facts.usage_entropy == pytest.approx(
        (min(of_sites), sum(of_sites) / len(of_sites), max(of_sites)), abs=1e-5
    )
    within = np.mean([entropy(row) for row in shares.reshape(-1, rows.shape[-1])])
    assert facts.row_entropy == pytest.approx(within, abs=1e-5)
    norms = np.linalg.norm(rows, axis=(1, 2))
    assert facts.norms == pytest.approx(np.percentile(norms, (5, 50, 95)).tolist(), rel=1e-5)
    assert facts.sampled == 10
    one = inspect_run(str(run), max_partitions=1).encoding
    assert one is not None and one.sampled == 4


def test_bytes_a_passage_are_those_of_files_and_of_one_lora(run: Path) -> None:
    facts = inspect_run(str(run), max_partitions=1).encoding
    assert facts is not None
    sizes = facts.bytes_per_passage
    tensors = load_file(run / "encoding" / "experts.safetensors")
    lora = sum(array.nbytes for array in tensors.values()) // facts.experts
    assert sizes["PRAG (one fp32 LoRA)"] == lora
    numbers = facts.sites * facts.experts
    rows = [path.stat().st_size for path in (run / "encoding" / "rows").glob("*.safetensors")]
    headers = sum(rows) - 10 * 4 * numbers
    assert sizes["encoding (fp32)"] * 10 == sum(rows) - headers
    assert sizes["serving (fp16)"] == 2 * numbers


def test_command_prints_text_and_json(run: Path) -> None:
    done = CliRunner().invoke(main, ["inspect", str(run)])
    assert done.exit_code == 0, done.output
    assert "step 5" in done.output and "of PRAG's" in done.output
    done = CliRunner().invoke(main, ["inspect", str(run), "--json", "--sample", "0"])
    values = json.loads(done.stdout)
    assert values["checkpoint"]["step"] == 5 and values["encoding"]["passages"] == 10
    text = inspection_text(inspect_run(str(run), max_partitions=0), str(run))
    assert max(map(len, text.splitlines())) <= 110


def test_run_without_anything_to_inspect_is_a_clear_error(tmp_path: Path, run: Path) -> None:
    for name in ("checkpoints", "encoding"):
        (run / name).rename(tmp_path / name)
    with pytest.raises(RunError, match="polyprag encode"):
        inspect_run(str(run), max_partitions=0)

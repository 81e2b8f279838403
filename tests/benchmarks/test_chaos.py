"""A short chaos.py: what is left of a training whose workers and nodes are killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "faults"),
    [("kills", {"worker": 1, "node": 1}), ("elastic", {"node dies": 1, "node joins": 1})],
)
def test_training_whose_workers_and_nodes_die_comes_to_the_same(
    tmp_path: Path, scenario: str, faults: dict[str, int]
) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--quick"]
    done = subprocess.run(
        [*command, "--only", scenario, "--json", str(result)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert result.exists(), done.stderr[-2000:]
    (outcome,) = json.loads(result.read_text())["outcomes"]
    assert outcome["problems"] == []
    assert outcome["faults"] == faults
    assert outcome["restarts"] >= 2

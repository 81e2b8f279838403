"""A short chaos.py: what is left of a training whose workers and nodes are killed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = {"kills": {"worker": 1, "node": 1}, "elastic": {"node dies": 1, "node joins": 1}}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of both scenarios, in one run: what they import and prepare is the same."""
    result = tmp_path_factory.mktemp("chaos") / "result.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--quick"]
    done = subprocess.run(
        [*command, "--only", ",".join(FAULTS), "--json", str(result)],
        capture_output=True,
        text=True,
        timeout=2400,
        check=False,
    )
    assert result.exists(), done.stderr[-2000:]
    return {outcome["name"]: outcome for outcome in json.loads(result.read_text())["outcomes"]}


@pytest.mark.slow
@pytest.mark.timeout(2700)  # longer than the command's own bound
@pytest.mark.parametrize("scenario", FAULTS)
def test_training_whose_workers_and_nodes_die_comes_to_the_same(
    scenario: str, outcomes: dict[str, Any]
) -> None:
    outcome = outcomes[scenario]
    assert outcome["problems"] == []
    assert outcome["faults"] == FAULTS[scenario]
    assert outcome["restarts"] >= 2

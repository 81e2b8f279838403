"""Short retrieval benchmarks: what is found is as good as they say; rates are not looked at."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def quick(name: str, directory: Path) -> dict[str, Any]:
    result = directory / "result.json"
    command = [sys.executable, str(BENCHMARKS / name), "--quick", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.exists(), done.stderr[-2000:]
    found: dict[str, Any] = json.loads(result.read_text())
    return found


@pytest.mark.slow
def test_dense_indexes_find_what_exact_search_finds(tmp_path: Path) -> None:
    result = quick("retrieval.py", tmp_path)
    assert list(result["sizes"]) == ["10000", "120000"]
    for of_size in result["sizes"].values():
        for system in ("polyprag", "faiss"):
            assert of_size[system]["search"]["recall@10"] >= 0.95
    small, large = result["sizes"].values()
    assert small["polyprag"]["search"]["recall@100"] == 1.0
    # The same lists and vectors, joined from parts: what differs is which of two equals is found.
    ours, faiss = (large[system]["search"]["recall@100"] for system in ("polyprag", "faiss"))
    assert ours == pytest.approx(faiss, abs=0.01)
    assert result["with_rows"]["vectors"] == 120_000


@pytest.mark.slow
def test_passages_are_found_as_well_as_rivals_find_them(tmp_path: Path) -> None:
    result = quick("retrieval_text.py", tmp_path)
    goals = [goal for goal in result["goals"] if "queries/s" not in goal["name"]]
    assert len(goals) == 4
    assert [goal["name"] for goal in goals if not goal["met"]] == []

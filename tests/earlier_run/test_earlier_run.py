"""A run that an earlier polyprag made opens, answers, grows and resumes as it did there.

`run.tar.gz` holds a random base model, a run that was stopped in the middle of its training
("unfinished"), and one that was trained to its end, indexed, grown by three passages, relieved of
one, and distilled ("finished"); all made by commit 8e2b9e6. `expected.json` has the losses of the
whole training, and that polyprag's answers. It isn't made anew when the code changes: a format that
changes is read in both versions, or the CHANGELOG says what must be made again.
"""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
Run = Callable[..., subprocess.CompletedProcess[str]]
Polyprag = Callable[..., str]
QUESTION = "Where was Jonas Vik born?"


@pytest.fixture
def polyprag(runs: Path, polyprag_here: Run, monkeypatch: pytest.MonkeyPatch) -> Polyprag:
    """What a command says that must end well, in the directory of the runs."""
    monkeypatch.chdir(runs)

    def run(*arguments: str) -> str:
        done = polyprag_here(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A directory with the two runs; their settings name the base model as it lies here."""
    with tarfile.open(HERE / "run.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_nothing_is_wrong_with_it(polyprag: Polyprag) -> None:
    for run in ("finished", "unfinished"):
        polyprag("verify", run)


@pytest.mark.parametrize("mode", sorted(EXPECTED["answers"]))
def test_it_answers_as_it_did(polyprag: Polyprag, mode: str) -> None:
    found: dict[str, Any] = json.loads(
        polyprag("ask", "finished", QUESTION, "--mode", mode, "--json")
    )
    expected = EXPECTED["answers"][mode]
    assert found["answer"] == expected["answer"]
    assert found["experts"] == pytest.approx(expected["experts"], abs=1e-4)
    for ours, theirs in zip(found["passages"], expected["passages"], strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], rel=1e-4)
        assert {**ours, "score": 0} == {**theirs, "score": 0}


def test_it_grows_and_forgets(runs: Path, polyprag: Polyprag) -> None:
    more = {"id": "p11", "title": "Lars Xan", "text": "Lars Xan (born 1902 in Turku) is a farmer."}
    (runs / "more.jsonl").write_text(json.dumps(more) + "\n", encoding="utf-8")
    assert "1 passage added" in polyprag("add", "finished", "more.jsonl", "--workers", "1")
    polyprag("remove", "finished", "--keys", "p0")
    polyprag("verify", "finished")
    answer = json.loads(polyprag("ask", "finished", "Lars Xan", "--mode", "poly", "--json"))
    assert answer["passages"][0]["key"] == "p11"


@pytest.mark.slow
def test_its_training_goes_on_where_it_stopped(runs: Path) -> None:
    outside = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("polyprag")),
            "encode",
            "unfinished",
            "cluster.workers=1",
        ],
        capture_output=True,
        text=True,
        timeout=900,
        env={**outside, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "NO_COLOR": "1"},
        cwd=runs,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (
        (runs / "unfinished" / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    )
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == len(EXPECTED["losses"])
    np.testing.assert_allclose(losses[:20], EXPECTED["losses"][:20], atol=1e-5)
    np.testing.assert_allclose(losses, EXPECTED["losses"], atol=5e-4)

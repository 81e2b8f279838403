"""docs/python.md: its code runs, one block after the other, on a run that it wasn't written for."""

import re
from pathlib import Path
from typing import Any

import pytest

import polyprag
from polyprag.config import Config

PAGE = Path(__file__).parents[2] / "docs/python.md"


@pytest.fixture
def runs(encoded_run: tuple[Path, Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the page's run be another one."""
    run, config = encoded_run
    load = polyprag.load

    def load_another(_: str, *settings: str) -> Any:
        return load(run, f"model.path={config.model.path}", *settings)

    monkeypatch.setattr(polyprag, "load", load_another)


@pytest.mark.usefixtures("runs")
def test_its_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        about_ours = block.replace("Teri DeSario", "Anna Smith")
        exec(compile(about_ours, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("\n") >= 7 and "combine [" in printed

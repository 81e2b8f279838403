"""docs/python.md and the notebook: their code runs, on a run that it wasn't written for."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import polyprag
from polyprag.config import Config

PAGE = Path(__file__).parents[2] / "docs/python.md"
NOTEBOOK = Path(__file__).parents[2] / "examples/asking.ipynb"


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


@pytest.mark.usefixtures("runs")
def test_the_notebooks_cells_run_and_show_what_they_were_written_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = [
        cell
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    names: dict[str, Any] = {}
    for at, cell in enumerate(cells):
        about_ours = "".join(cell["source"]).replace("Teri DeSario", "Anna Smith")
        exec(compile(about_ours, f"{NOTEBOOK}, cell {at}", "exec"), names)
        shows = bool(cell["outputs"])
        assert shows == (cell is not cells[-1]), f"cell {at} wasn't executed"  # which only closes
    printed = capsys.readouterr().out
    assert "closed   " in printed and printed.count("tokens read") == 4

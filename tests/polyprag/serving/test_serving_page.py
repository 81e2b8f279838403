"""docs/serving.md: its Python runs, and what its tables name is there."""

import re
from pathlib import Path

import httpx
import pytest

from polyprag.serving.wire import PolypragFields
from tests.polyprag.serving.conftest import Serving

PAGE = (Path(__file__).parents[3] / "docs/serving.md").read_text(encoding="utf-8")


def test_its_code_runs(serving: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    block = block.replace("http://127.0.0.1:8000", serving.url).replace("Teri DeSario", "Anna")
    exec(compile(block, "docs/serving.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "p0 " in printed and "'trusted': " in printed


def test_its_tables_are_whole(serving: Serving) -> None:
    for field in PolypragFields.model_fields:
        assert f"| `{field}` |" in PAGE
    paths = httpx.get(f"{serving.url}/openapi.json").json()["paths"]
    for path in paths:
        assert f"{path.partition('{')[0].rstrip('/')}" in PAGE

"""A run's id is made once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.record.run_id import run_id_of
from polyprag.errors import RunError


def test_all_who_ask_get_the_same_id(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(run_id_of, [str(tmp_path)] * 8))
    assert len(ids) == 1
    assert ids == {(tmp_path / "logs" / "run-id").read_text().strip()}
    assert run_id_of(str(tmp_path / "other")) not in ids
    assert run_id_of("memory://run-id-test") == run_id_of("memory://run-id-test")


@pytest.mark.parametrize("content", ["", "12AB34CD", "../../etc", "12ab34cd5", "x" * 1000])
def test_anything_else_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "run-id").write_text(content)
    with pytest.raises(RunError, match=r"run-id: not a run's id .*delete it"):
        run_id_of(str(tmp_path))

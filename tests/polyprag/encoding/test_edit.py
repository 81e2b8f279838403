"""An encoding that grows and forgets, killed at every file operation on the way."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count as counter
from pathlib import Path

import numpy as np
import pytest
import torch

from polyprag.config import Config, ExpertsConfig
from polyprag.encoding.base import BaseModel
from polyprag.encoding.edit import extend_encoding, forget_encoded_rows
from polyprag.encoding.manifest import EncodingManifest, RowsPart, Trained
from polyprag.encoding.reader import Encoding, encoding_dir, save_encoding
from polyprag.errors import RunError
from sharding.rows.file import save_rows
from sharding.rows.part import RowPartition

KilledAfter = Callable[[int, Callable[[], object]], bool]
S, K, SIZES = 2, 3, (3, 2, 4)
TABLE = np.random.default_rng(0).standard_normal((sum(SIZES), S, K)).astype(np.float32)


def save_part(run: Path, index: int, *, joint: bool = True, name: str | None = None) -> RowsPart:
    first_id = sum(SIZES[:index])
    rows = TABLE[first_id : first_id + SIZES[index]].copy()
    zeros = np.zeros_like(rows)
    part = RowPartition(index, first_id, rows, zeros, zeros, np.zeros(len(rows), np.int32))
    file = f"rows/{name or f'part-{index:05d}'}.safetensors"
    sha256, _ = save_rows(f"{encoding_dir(run)}/{file}", part, moments=False)
    return RowsPart(index, first_id, SIZES[index], file, sha256, joint=joint)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The rows of the first two of three partitions."""
    save_encoding(
        encoding_dir(tmp_path / "run"),
        config=replace(Config(), experts=ExpertsConfig(num=K)),
        expert_state={"layer.A": torch.ones(1)},
        base_model=BaseModel("base", 1, 2, "a" * 64, "b" * 64, "c" * 64, None, {}),
        num_sites=S,
        parts=[save_part(tmp_path / "run", index) for index in (0, 1)],
        trained=Trained(steps=1, epochs=1),
    )
    return tmp_path / "run"


def files(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()
    }


def test_parts_join_at_the_end_and_nothing_else_changes(run: Path) -> None:
    before = files(run)
    part = save_part(run, 2, joint=False, name="part-00002-0123456789ab")
    extended = extend_encoding(run, [part])
    assert extended == EncodingManifest.load(encoding_dir(run))
    assert [each.joint for each in extended.parts] == [True, True, False]
    np.testing.assert_array_equal(Encoding.load(run).rows(np.arange(9)), TABLE)
    changed = {name for name, data in files(run).items() if before.get(name) != data}
    assert changed == {"encoding/manifest.json", f"encoding/{part.file}"}
    after = files(run)
    assert extend_encoding(run, [part]) == extended
    assert files(run) == after


def test_parts_that_can_not_follow_are_refused(run: Path) -> None:
    before = files(run)
    part = save_part(run, 2)
    (run / "encoding" / part.file).unlink()
    with pytest.raises(RunError, match=r"part-00002\.safetensors: no such file"):
        extend_encoding(run, [part])
    other = RowsPart(2, 4, 4, part.file, part.sha256, True)
    with pytest.raises(RunError, match="partition 2 from passage 5 on comes next"):
        extend_encoding(run, [other])
    assert files(run) == before


def test_forgotten_rows_are_zero_and_only_their_files_change(run: Path) -> None:
    before = EncodingManifest.load(encoding_dir(run))
    forget_encoded_rows(run, [7, 4, 4])  # 7 is of a partition that has no rows yet
    manifest = EncodingManifest.load(encoding_dir(run))
    assert manifest.parts[0] == before.parts[0]
    assert manifest.parts[1].file != before.parts[1].file
    expected = TABLE[:5].copy()
    expected[4] = 0
    np.testing.assert_array_equal(Encoding.load(run).rows(np.arange(5)), expected)
    assert set(files(run)) == {
        "encoding/manifest.json",
        "encoding/config.yaml",
        "encoding/experts.safetensors",
        "encoding/adapter_config.json",
        "encoding/adapter_model.safetensors",
        *(f"encoding/{part.file}" for part in manifest.parts),
    }
    after = files(run)
    forget_encoded_rows(run, [4])
    assert files(run) == after


def test_rows_that_add_has_begun_with_stay(run: Path) -> None:
    begun = save_part(run, 2, name="part-00002-0123456789ab")
    stale = save_part(run, 0, name="part-00000-0123456789ab")
    forget_encoded_rows(run, [0])
    assert (run / "encoding" / begun.file).exists()
    assert not (run / "encoding" / stale.file).exists()


def test_without_an_encoding_there_is_nothing_to_forget(tmp_path: Path) -> None:
    forget_encoded_rows(tmp_path, [0])
    assert list(tmp_path.iterdir()) == []


def test_an_encoding_of_version_1_is_read_as_trained_jointly(run: Path) -> None:
    path = run / "encoding" / "manifest.json"
    values = json.loads(path.read_text())
    for part in values["parts"]:
        del part["joint"]
    for name in ("weights", "tokenizer", "chat_template", "settings"):
        del values["base_model"][name]
    path.write_text(json.dumps(values | {"version": 1}))
    manifest = EncodingManifest.load(encoding_dir(run))
    assert [part.joint for part in manifest.parts] == [True, True]
    extend_encoding(run, [save_part(run, 2, joint=False)])
    assert json.loads(path.read_text())["version"] == 4


def test_killed_at_any_step_it_is_whole_and_the_same_calls_do_the_rest(
    run: Path, tmp_path: Path, killed_after: KilledAfter
) -> None:
    finished: list[dict[str, bytes]] = []
    for survives in counter():
        copy = tmp_path / str(survives)
        shutil.copytree(run, copy)
        part = save_part(copy, 2, joint=False)

        def edit(copy: Path = copy, part: RowsPart = part) -> None:
            forget_encoded_rows(copy, [1, 3])
            extend_encoding(copy, [part])

        killed = killed_after(survives, edit)
        encoding = Encoding.load(copy)
        rows = encoding.rows(np.arange(encoding.manifest.num_passages))
        assert encoding.manifest.num_passages in (5, 9)
        assert all(not row.any() or np.array_equal(row, TABLE[i]) for i, row in enumerate(rows))
        edit()
        finished.append(files(copy))
        if not killed:
            break
    assert survives > 5
    assert all(each == finished[-1] for each in finished)
    assert not any(name.endswith(".tmp") for name in finished[-1])

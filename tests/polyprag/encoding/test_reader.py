"""The artefact: written once, read lazily, damage and mismatch named."""

import hashlib
import json
import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from safetensors.torch import save
from transformers import LlamaForCausalLM

from polyprag.config import Config, ExpertsConfig
from polyprag.encoding.base import BaseModel
from polyprag.encoding.manifest import EncodingManifest, RowsPart, Trained
from polyprag.encoding.reader import Encoding, encoding_dir, save_encoding
from polyprag.errors import RunError
from polyprag.method.experts import inject
from sharding.rows.file import save_rows
from sharding.rows.part import RowPartition

S, K, SIZES = 6, 4, (3, 3, 1)
BASE = BaseModel("base", 2, 32, "a" * 64, "b" * 64, "c" * 64, None, {"rope_theta": 1e4})
TABLE = np.random.default_rng(0).standard_normal((sum(SIZES), S, K)).astype(np.float32)


@pytest.fixture(scope="module")
def state(make_random_llama: Callable[..., LlamaForCausalLM]) -> dict[str, torch.Tensor]:
    config = Config()
    return inject(
        make_random_llama(), ExpertsConfig(num=K, rank=2), config.router, seed=0
    ).state_dict()


@pytest.fixture
def run(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    directory = encoding_dir(tmp_path)
    parts, first_id = [], 0
    for index, size in enumerate(SIZES):
        rows = TABLE[first_id : first_id + size]
        zeros = np.zeros_like(rows)
        part = RowPartition(index, first_id, rows, zeros, zeros, np.zeros(size, np.int32))
        file = f"rows/part-{index:05d}.safetensors"
        # With moments as without: the rows needn't come first in the file.
        sha256, _ = save_rows(f"{directory}/{file}", part, moments=index != 1)
        parts.append(RowsPart(index, first_id, size, file, sha256, True))
        first_id += size
    save_encoding(
        directory,
        config=replace(Config(), experts=ExpertsConfig(num=K, rank=2)),
        expert_state=state,
        base_model=BASE,
        num_sites=S,
        parts=parts,
        trained=Trained(steps=10, epochs=2),
    )
    return tmp_path


def test_what_was_saved_comes_back(run: Path, state: dict[str, torch.Tensor]) -> None:
    encoding = Encoding.load(run)
    assert encoding.config.experts.num == K
    assert (encoding.manifest.num_passages, encoding.manifest.trained.steps) == (7, 10)
    loaded = encoding.expert_state()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    json.loads((run / "encoding" / "manifest.json").read_text())


def test_experts_under_the_names_of_version_3_are_read(
    run: Path, state: dict[str, torch.Tensor]
) -> None:
    directory = run / "encoding"
    data = save(state)
    (directory / "experts.safetensors").write_bytes(data)
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["experts"]["sha256"] = hashlib.sha256(data).hexdigest()
    (directory / "manifest.json").write_text(json.dumps(manifest | {"version": 3}))
    loaded = Encoding.load(run).expert_state()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.fixture
def encoding(run: Path) -> Encoding:
    return Encoding.load(run)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ids=st.lists(st.integers(0, sum(SIZES) - 1), max_size=20))
def test_rows_come_in_the_order_asked_for(encoding: Encoding, ids: list[int]) -> None:
    got = encoding.rows(ids)
    assert got.dtype == np.float32 and got.flags.writeable
    np.testing.assert_array_equal(got, TABLE[np.array(ids, dtype=int)])


def test_rows_are_read_through_a_memory_map_of_the_parts_asked_for(run: Path) -> None:
    (run / "encoding" / "rows" / "part-00000.safetensors").unlink()
    encoding = Encoding.load(run)
    encoding.rows([6, 3])
    assert sorted(encoding._open_parts) == [1, 2]
    for array in encoding._open_parts.values():
        while isinstance(array, np.ndarray):
            array = array.base
        assert isinstance(array.obj if isinstance(array, memoryview) else array, mmap.mmap)


def test_an_encoding_behind_a_url_reads_the_same(run: Path) -> None:
    encoding = Encoding.load(f"file://{run}")
    np.testing.assert_array_equal(encoding.rows([5, 0]), TABLE[[5, 0]])


@pytest.mark.parametrize("wrong", [-1, 7, 2**40])
def test_a_passage_that_was_not_encoded_is_named(run: Path, wrong: int) -> None:
    with pytest.raises(RunError, match=f"passage {wrong} isn't in"):
        Encoding.load(run).rows([0, wrong])


def test_a_run_without_an_encoding_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="polyprag encode RUN"):
        Encoding.load(tmp_path)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
@pytest.mark.parametrize("file", ["experts.safetensors", "rows/part-00001.safetensors"])
def test_damaged_files_are_named(run: Path, file: str, damage: str) -> None:
    path = run / "encoding" / file
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[-1] ^= 1
        path.write_bytes(data if damage == "flip" else data[:-8])
    encoding = Encoding.load(run)
    with pytest.raises(RunError, match=f"{file}.*encode RUN"):
        encoding.rows([3])
        encoding.expert_state()


def set_field(manifest: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for parent in parents:
        manifest = manifest[int(parent)] if parent.isdigit() else manifest[parent]
    manifest[last] = value


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 5, "version 5"),
        ("parts/1/joint", 1, r"parts\[1\]\.joint"),
        ("format", "zip", "format"),
        ("num_passages", 8, "num_passages"),
        ("num_sites", "6", "num_sites"),
        ("rank", 0, "rank"),
        ("parts/1/file", "../../etc/passwd", r"parts\[1\]\.file"),
        ("parts/1/file", "rows/part-00002.safetensors", r"parts\[1\]\.file"),
        ("parts/1/first_id", 4, r"parts\[1\]\.first_id"),
        ("parts/0/sha256", "zz", "sha256"),
        ("parts", {}, "parts"),
        ("experts/file", "../experts.safetensors", r"experts\.file"),
        ("base_model", None, "base_model"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_manifest_that_can_not_be_is_refused(
    run: Path, field: str, value: Any, message: str
) -> None:
    path = run / "encoding" / "manifest.json"
    manifest = json.loads(path.read_text())
    set_field(manifest, field, value)
    path.write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=rf"manifest\.json.*{message}"):
        Encoding.load(run)


def test_rows_of_another_shape_than_the_manifest_says_are_refused(run: Path) -> None:
    directory = encoding_dir(run)
    manifest = EncodingManifest.load(directory)
    structs.replace(manifest, num_sites=S + 1).save(directory)
    with pytest.raises(RunError, match="rows of shape"):
        Encoding.load(run).rows([0])


def test_another_base_model_is_refused(run: Path) -> None:
    encoding = Encoding.load(run)
    encoding.check_base_model(BASE)
    encoding.check_base_model(structs.replace(BASE, path="moved/elsewhere"))
    encoding.check_base_model(structs.replace(BASE, sha256="f" * 64))  # saved anew
    with pytest.raises(RunError, match=r"'other' has other weights: set model\.path=base, or"):
        encoding.check_base_model(structs.replace(BASE, path="other", weights="f" * 64))
    with pytest.raises(RunError, match="has other weights: bring back the files that base had"):
        encoding.check_base_model(structs.replace(BASE, weights="f" * 64))
    with pytest.raises(RunError, match="another tokenizer"):
        encoding.check_base_model(structs.replace(BASE, tokenizer="f" * 64))
    with pytest.raises(RunError, match="another chat template"):
        encoding.check_base_model(structs.replace(BASE, chat_template="f" * 64))
    with pytest.raises(RunError, match=r"rope_theta 500000\.0 in place of 10000\.0"):
        encoding.check_base_model(structs.replace(BASE, settings={"rope_theta": 5e5, "new": 1}))
    with pytest.raises(RunError, match="num_layers 3 in place of 2"):
        encoding.check_base_model(structs.replace(BASE, num_layers=3))


def test_one_made_before_weights_were_known_is_held_against_config_json(run: Path) -> None:
    old = structs.replace(BASE, weights=None, tokenizer=None, settings={})
    directory = encoding_dir(run)
    structs.replace(EncodingManifest.load(directory), base_model=old).save(directory)
    encoding = Encoding.load(run)
    encoding.check_base_model(BASE)
    with pytest.raises(RunError, match=r"another config\.json, which is all that was kept"):
        encoding.check_base_model(structs.replace(BASE, sha256="f" * 64))

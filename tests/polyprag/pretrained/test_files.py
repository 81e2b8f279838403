"""Hostile and damaged files of a model: one line each, before anything is loaded or waited for."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.config import ModelConfig
from polyprag.errors import ConfigError
from polyprag.method.base_model import load_base
from polyprag.pretrained import UnusableModelError
from polyprag.pretrained.files import check_model_files, tensors_in, weight_files
from polyprag.pretrained.tensors import tensors_of

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def base(
    tmp_path: Path,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> Path:
    make_random_llama().save_pretrained(tmp_path / "base")
    make_byte_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def with_header(header: bytes, *, length: int | None = None, data: bytes = b"\0" * 64) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(**changed: object) -> bytes:
    values = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | changed
    return json.dumps({"model.norm.weight": values}).encode()


def test_headers_are_read_as_the_library_reads_them(base: Path) -> None:
    expected = load_file(base / WEIGHTS)
    found = tensors_of(base / WEIGHTS)
    assert found.keys() == expected.keys()
    data = (base / WEIGHTS).read_bytes()
    for name, tensor in expected.items():
        assert found[name].shape == list(tensor.shape)
        begin, end = found[name].first_byte, found[name].first_byte + found[name].num_bytes
        assert data[begin:end] == tensor.numpy().tobytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        with_header(b"{}", length=2**63),
        with_header(b"{}", length=99_000_000),
        with_header(b"not json"),
        with_header(b"[" * 100_000),
        with_header(b'{"a":' * 50_000),
        with_header(b"\xff\xfe{}"),
        with_header(b"[]"),
        with_header(entry(data_offsets=[0, 65])),
        with_header(entry(data_offsets=[32, 0])),
        with_header(entry(data_offsets=[-64, 0])),
        with_header(entry(data_offsets=[0.0, 64.0])),
        with_header(entry(data_offsets=[0])),
        with_header(entry(shape=[-4, -4])),
        with_header(entry(shape="4,4")),
        with_header(entry(shape=[10**30])),
        with_header(entry(dtype=None)),
        with_header(b'{"a": 3}'),
    ],
)
def test_a_header_that_can_not_be_is_one_line(base: Path, content: bytes) -> None:
    (base / WEIGHTS).write_bytes(content)
    with pytest.raises(UnusableModelError, match=WEIGHTS) as refused:
        check_model_files(str(base))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000
    with pytest.raises(ConfigError, match=r"model\.path"):
        load_base(ModelConfig(path=str(base)), device="cpu")


@pytest.mark.parametrize(
    "name",
    [
        "../other/model.safetensors",
        "/etc/passwd",
        "sub/model.safetensors",
        "model.bin",
        "",
        3,
        None,
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(base: Path, name: object) -> None:
    (base / WEIGHTS).rename(base / "part.safetensors")
    other = base.parent / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes((base / "part.safetensors").read_bytes())
    weight_map = {"model.norm.weight": "part.safetensors", "lm_head.weight": name}
    (base / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    for refuse in (check_model_files, lambda path: load_base(ModelConfig(path=path))):
        with pytest.raises((UnusableModelError, ConfigError), match=f"{INDEX}: weight_map names"):
            refuse(str(base))


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": []}', '{"weight_map": {}}', "{" * 9999])
def test_an_index_that_can_not_be_is_refused(base: Path, text: str) -> None:
    (base / WEIGHTS).unlink()
    (base / INDEX).write_text(text)
    with pytest.raises(UnusableModelError, match=INDEX):
        check_model_files(str(base))


def test_a_shard_that_is_missing_is_named(base: Path) -> None:
    (base / WEIGHTS).rename(base / "part.safetensors")
    names = {"a": "part.safetensors", "b": "gone.safetensors"}
    (base / INDEX).write_text(json.dumps({"weight_map": names}))
    with pytest.raises(UnusableModelError, match=r"gone\.safetensors: no such file"):
        check_model_files(str(base))


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_pipe_is_not_waited_for(base: Path, name: str) -> None:
    (base / name).unlink(missing_ok=True)
    os.mkfifo(base / name)
    with pytest.raises(UnusableModelError, match="isn't a file"):
        check_model_files(str(base))
    with pytest.raises(ConfigError, match="isn't a file"):
        load_base(ModelConfig(path=str(base)), device="cpu")


def test_files_that_are_far_too_large_are_not_read(base: Path) -> None:
    with open(base / "config.json", "r+b") as file:
        file.truncate(1 << 40)  # sparse: takes no room
    with pytest.raises(UnusableModelError, match=r"config\.json has 1,099,511,627,776 bytes"):
        check_model_files(str(base))


def test_a_tokenizer_far_too_large_is_not_read(base: Path) -> None:
    with open(base / "tokenizer.json", "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=r"tokenizer\.json has 1,099,511,627,776 bytes"):
        load_base(ModelConfig(path=str(base)), device="cpu")


def test_other_formats_say_what_to_do(base: Path) -> None:
    (base / WEIGHTS).unlink()
    with pytest.raises(UnusableModelError, match=r"has no weights as \.safetensors$"):
        check_model_files(str(base))
    (base / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(UnusableModelError, match="save_pretrained"):
        check_model_files(str(base))
    (base / "model.Q4_K_M.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnusableModelError, match="only GGUF: name the file"):
        check_model_files(str(base))


def test_one_tensor_in_two_files_is_refused(base: Path) -> None:
    save_file(load_file(base / WEIGHTS), base / "again.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnusableModelError, match="both have"):
        tensors_in([*weight_files(base), base / "again.safetensors"])


@pytest.mark.parametrize(
    "changed",
    [
        {"attn_implementation": "owner/kernel"},
        {"_attn_implementation": "owner/kernel@v1:forward"},
        {"_attn_implementation_internal": "owner/kernel"},
        {"attn_implementation": {"": "owner/kernel"}},
        {"experts_implementation": "owner/kernel"},
        {"attn_implementation": ["sdpa"]},
        {"attn_implementation": "flash_attention_2"},  # else from the hub, where it isn't installed
        {"text_config": {"attn_implementation": "owner/kernel"}},
    ],
)
def test_only_attention_that_transformers_ships_is_run(
    base: Path, changed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", never)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | changed))
    for refuse in (check_model_files, lambda path: load_base(ModelConfig(path=path))):
        with pytest.raises((UnusableModelError, ConfigError), match="implementation"):
            refuse(str(base))


@pytest.mark.parametrize("name", ["eager", "sdpa", None])
def test_attention_that_transformers_ships_is_taken(base: Path, name: str | None) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"attn_implementation": name}))
    load_base(ModelConfig(path=str(base)), device="cpu")


@pytest.mark.parametrize(
    "changed",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": "2"},
        {"num_hidden_layers": None},
        {"num_hidden_layers": True},
        {"hidden_size": -32},
        {"hidden_size": 10**15},
        {"num_local_experts": 10**7},
        {"vocab_size": 10**9},
        {"intermediate_size": 10**8},
        {"num_attention_heads": 0},
        {"num_attention_heads": 10**6},
        {"rms_norm_eps": "small"},
        {"hidden_act": "no such"},
        {"model_type": ["llama"]},
        {"model_type": 3},
        {"rope_parameters": 7},
        {"layer_types": ["a"]},
    ],
)
def test_odd_values_in_config_json_are_one_line(base: Path, changed: dict[str, object]) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ConfigError, match=r"model\.path") as refused:
        load_base(ModelConfig(path=str(base)), device="cpu")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000


def test_a_config_that_is_not_an_object_is_refused(base: Path) -> None:
    for text in ("[]", "3", "{", "[" * 100_000, "\xff"):
        (base / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(ConfigError, match=r"config\.json"):
            load_base(ModelConfig(path=str(base)), device="cpu")

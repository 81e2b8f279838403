"""What tells a base model from others: its weights and tokenizer, not its files' bytes."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.config import ModelConfig
from polyprag.encoding.base import BaseModel, describe_base
from polyprag.method.base_model import load_tokenizer
from polyprag.pretrained.identity import tokenizer_digest, weights_digest
from polyprag.pretrained.tensors import sampled_ranges, tensors_of


@pytest.fixture
def base(
    tmp_path: Path,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> Path:
    make_random_llama().save_pretrained(tmp_path / "base")
    make_byte_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def described(directory: Path) -> BaseModel:
    config = ModelConfig(path=str(directory))
    return describe_base(config, load_tokenizer(config))


def copy_of(base: Path, name: str) -> Path:
    return Path(shutil.copytree(base, base.with_name(name)))


def change_json(path: Path, **changes: object) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: values[key] for key in sorted(values, reverse=True)}))


def change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def test_a_config_that_was_saved_anew_is_of_the_same_model(base: Path) -> None:
    other = copy_of(base, "other")
    change_json(
        other / "config.json", transformers_version="4.30.0", use_cache=False, torch_dtype="float16"
    )
    assert (other / "config.json").read_bytes() != (base / "config.json").read_bytes()
    assert described(base).difference(described(other), chat=True) is None


def test_other_files_of_the_same_weights_are_the_same_model(
    base: Path, make_random_llama: Callable[..., LlamaForCausalLM]
) -> None:
    other = copy_of(base, "other")
    (other / "model.safetensors").unlink()
    make_random_llama().save_pretrained(other, max_shard_size="20KB")
    assert len(list(other.glob("*.safetensors"))) > 2
    assert described(base).weights == described(other).weights


def test_a_head_that_is_the_embeddings_over_again_is_no_difference(base: Path) -> None:
    other = copy_of(base, "other")

    def tie(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()

    def drop(weights: dict[str, torch.Tensor]) -> None:
        del weights["lm_head.weight"]

    change_weights(base, tie)
    change_weights(other, drop)
    assert weights_digest(str(base)) == weights_digest(str(other))


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_other_weights_are_another_model(base: Path, name: str) -> None:
    other = copy_of(base, "other")
    change_weights(other, lambda weights: weights[name].mul_(1.001))
    assert (other / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert described(base).difference(described(other), chat=False) == "other weights"


def test_swapped_names_are_other_weights(base: Path) -> None:
    other = copy_of(base, "other")

    def swap(weights: dict[str, torch.Tensor]) -> None:
        one, two = (f"model.layers.{i}.mlp.up_proj.weight" for i in (0, 1))
        weights[one], weights[two] = weights[two], weights[one]

    change_weights(other, swap)
    assert weights_digest(str(base)) != weights_digest(str(other))


def test_another_tokenizer_is_refused_though_its_size_is_the_same(base: Path) -> None:
    other = copy_of(base, "other")
    file = other / "tokenizer.json"
    text = json.loads(file.read_text())
    vocabulary = text["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(text))
    assert described(base).difference(described(other), chat=False) == "another tokenizer"


def test_a_normaliser_shows_in_the_ids(base: Path) -> None:
    other = copy_of(base, "other")
    change_json(other / "tokenizer.json", normalizer={"type": "Lowercase"})
    assert described(base).difference(described(other), chat=False) == "another tokenizer"


def test_a_chat_template_counts_where_it_is_used(base: Path) -> None:
    other = copy_of(base, "other")
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert described(base).difference(described(other), chat=True) == "another chat template"
    assert described(base).difference(described(other), chat=False) is None


def test_a_tokenizer_in_use_is_the_same_as_one_just_loaded(base: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(base)))
    before = tokenizer_digest(tokenizer)
    tokenizer(["a", "longer text"], padding=True, truncation=True, max_length=3)
    assert tokenizer_digest(tokenizer) == before


def test_a_setting_that_no_shape_shows_is_told(base: Path) -> None:
    other = copy_of(base, "other")
    change_json(other / "config.json", num_attention_heads=4, num_key_value_heads=4, head_dim=8)
    difference = described(base).difference(described(other), chat=False)
    assert difference == "head_dim 8 in place of 16 in config.json"


def test_a_large_model_is_known_by_a_few_blocks_of_each_tensor(tmp_path: Path) -> None:
    # The same bytes by another way: the library's own reader and a plain rule for the places.
    tensor = torch.arange(100_000, dtype=torch.float32)
    small = torch.ones(3)
    path = tmp_path / "model.safetensors"
    save_file({"large": tensor, "small": small}, path, metadata={"format": "pt"})
    raw = tensor.numpy().tobytes()
    at = [0, (400_000 - 4096) // 3, 2 * (400_000 - 4096) // 3, 400_000 - 4096]
    sample = b"".join(raw[start : start + 4096] for start in at)
    lines = [
        f"large F32 [100000] {hashlib.sha256(sample).hexdigest()}",
        f"small F32 [3] {hashlib.sha256(small.numpy().tobytes()).hexdigest()}",
    ]
    assert weights_digest(str(tmp_path)) == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    entry = tensors_of(path)["large"]
    assert sum(end - start for start, end in sampled_ranges(entry)) == 4 * 4096
    with safe_open(path, framework="pt") as opened:
        assert set(opened.keys()) == {"large", "small"}


def test_its_description_says_where_it_was(base: Path) -> None:
    found = described(base)
    assert (found.path, found.num_layers, found.hidden_size) == (str(base), 2, 32)
    assert found.sha256 == hashlib.sha256((base / "config.json").read_bytes()).hexdigest()
    assert found.settings["num_attention_heads"] == 2
    assert all(
        re.fullmatch("[0-9a-f]{64}", text or "") for text in (found.weights, found.tokenizer)
    )

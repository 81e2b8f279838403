"""The model of an index's vectors is known again by its weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.config import Config, IndexConfig, ModelConfig
from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.encoders.choice import fit_encoder, saved_encoder
from polyprag.retrieval.encoders.model_files import check_sentence_files


@pytest.fixture
def model(
    tmp_path: Path,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> Path:
    make_random_llama().save_pretrained(tmp_path / "model")
    make_byte_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "encoder").mkdir()
    return tmp_path / "model"


@pytest.mark.parametrize("kind", ["base", "transformers"])
def test_other_weights_at_the_same_path_are_refused(model: Path, kind: str) -> None:
    directory = model.parent / "encoder"
    index: dict[str, Any] = {"encoder": kind}
    if kind == "transformers":
        index["encoder_path"] = str(model)
    fitted = fit_encoder(
        directory, [], Config(model=ModelConfig(path=str(model)), index=IndexConfig(**index))
    )
    again = saved_encoder(directory)
    np.testing.assert_array_equal(again.encode_queries(["a"]), fitted.encode_queries(["a"]))
    weights = load_file(model / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] += 0.5
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    key = "model.path" if kind == "base" else "index.encoder_path"
    with pytest.raises(RunError, match=rf"{key}='{model}' has other weights"):
        saved_encoder(directory)


def test_an_encoder_saved_before_weights_were_known_opens(model: Path) -> None:
    directory = model.parent / "encoder"
    config = Config(model=ModelConfig(path=str(model)), index=IndexConfig(encoder="base"))
    fit_encoder(directory, [], config)
    values = json.loads((directory / "encoder.json").read_text())
    assert values["fitted"].pop("weights")
    (directory / "encoder.json").write_text(json.dumps(values))
    assert saved_encoder(directory).dims == 32


def test_a_sentence_model_names_no_code_from_a_hub(model: Path) -> None:
    check_sentence_files(str(model))
    inner = Path(shutil.copytree(model, model.parent / "whole" / "0_Transformer"))
    check_sentence_files(str(inner.parent))
    config = json.loads((inner / "config.json").read_text())
    (inner / "config.json").write_text(json.dumps(config | {"attn_implementation": "owner/name"}))
    with pytest.raises(ConfigError, match="owner/name"):
        check_sentence_files(str(inner.parent))
    with pytest.raises(ConfigError, match="there is no directory"):
        check_sentence_files(str(model.parent / "none"))

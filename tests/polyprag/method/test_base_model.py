"""Loading a base model from a directory, and the errors of those that can't be loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from polyprag.config import ModelConfig
from polyprag.errors import ConfigError
from polyprag.method.base_model import load_base, load_tokenizer


@pytest.fixture
def directory(
    tmp_path: Path,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> Path:
    make_random_llama().save_pretrained(tmp_path)
    make_byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_loads_what_was_saved_in_eval_mode(
    directory: Path, make_random_llama: Callable[..., LlamaForCausalLM]
) -> None:
    model, tokenizer = load_base(ModelConfig(path=str(directory)), device="cpu")
    assert not model.training
    assert model.dtype == torch.float32, "auto is fp32 on the CPU"
    ids = torch.tensor([tokenizer("Who?")["input_ids"]])
    assert torch.equal(model(ids).logits, make_random_llama()(ids).logits)


def test_dtype_can_be_chosen(directory: Path) -> None:
    model, _ = load_base(ModelConfig(path=str(directory), dtype="bf16"), device="cpu")
    assert model.dtype == torch.bfloat16


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_padding_falls_back_to_eos(directory: Path) -> None:
    change_json(directory / "tokenizer_config.json", pad_token=None)
    tokenizer = load_tokenizer(ModelConfig(path=str(directory)))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 257


def test_a_tokenizer_without_eos_is_refused(directory: Path) -> None:
    change_json(directory / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ConfigError, match="no EOS token"):
        load_tokenizer(ModelConfig(path=str(directory)))


def test_a_path_that_is_not_there_names_the_key_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"model\.path=.*there is no directory .*nowhere"):
        load_base(ModelConfig(path=str(tmp_path / "nowhere")), device="cpu")
    with pytest.raises(ConfigError, match=r"model\.path=.*isn't a directory, and the hub"):
        load_base(ModelConfig(path="nobody/no-such-model"), device="cpu")


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.path=.*config\.json"):
        load_base(ModelConfig(path=str(tmp_path)), device="cpu")


def test_pickled_weights_are_never_loaded(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"not to be opened")
    with pytest.raises(ConfigError, match=r"weights as \.safetensors"):
        load_base(ModelConfig(path=str(directory)), device="cpu")


def test_weights_cut_short_are_refused(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ConfigError, match=r"model\.path"):
        load_base(ModelConfig(path=str(directory)), device="cpu")


def test_weights_that_lack_tensors_are_refused(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 of its weights.*layers\.1\.mlp\.up_proj"):
        load_base(ModelConfig(path=str(directory)), device="cpu")


def test_weights_of_another_shape_are_refused(directory: Path) -> None:
    change_json(directory / "config.json", intermediate_size=40)
    with pytest.raises(ConfigError, match=r"6 of its weights"):
        load_base(ModelConfig(path=str(directory)), device="cpu")


def test_a_models_own_code_is_never_run(directory: Path) -> None:
    (directory / "evil.py").write_text(f"open({str(directory / 'ran')!r}, 'w')\n")
    change_json(
        directory / "config.json",
        model_type="evil",
        auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    )
    with pytest.raises(ConfigError, match="never runs a model's own code"):
        load_base(ModelConfig(path=str(directory)), device="cpu")
    assert not (directory / "ran").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(directory: Path, value: float) -> None:
    weights = load_file(directory / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 5] = value
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"model\.path=.*1 of its weights.*{name}") as refused:
        load_base(ModelConfig(path=str(directory)), device="cpu")
    assert refused.value.exit_status == 2

"""What the driver sees of the base model before Ray starts and before settings are saved."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster.ray import driver
from polyprag.config.files import load_config, save_config
from polyprag.encoding.manifest import EncodingManifest
from polyprag.errors import ConfigError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs that workers would have been started with; none is."""
    configs: list[Any] = []
    monkeypatch.setattr(
        driver, "train_on_ray", lambda run_dir, config, plan, *, lease: configs.append(config)
    )
    return configs


@pytest.fixture
def other_base(workplace: Any, tmp_path: Path) -> Path:
    """A base model with the same config and tokenizer, and other weights."""
    directory = Path(shutil.copytree(workplace.base, tmp_path / "other"))
    weights = load_file(directory / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for tensor in weights.values():
        tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def settings(place: Any, **changed: Any) -> Any:
    return load_config(overrides=place.overrides(**changed))


def change_json(path: Path, **changed: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_another_base_is_refused_and_the_plain_command_still_works(
    straight_run: Any, tmp_path: Path, other_base: Path, started: list[Any]
) -> None:
    place = straight_run(world_size=1).copy_to(tmp_path / "trained")
    save_config(settings(place), place.run)
    before = (place.run / "config.yaml").read_bytes()
    with pytest.raises(ConfigError) as refused:
        driver.encode(str(place.run), settings(place, model__path=other_base, train__epochs=2))
    assert "other weights" in str(refused.value)
    assert f"set model.path={place.base}" in str(refused.value) and str(other_base) in str(
        refused.value
    )
    assert not started
    assert (place.run / "config.yaml").read_bytes() == before
    driver.encode(str(place.run), load_config(run_dir=place.run, overrides=["train.epochs=2"]))
    assert [config.model.path for config in started] == [str(place.base)]


def test_the_same_weights_with_a_config_saved_anew_go_on(
    straight_run: Any, tmp_path: Path, started: list[Any]
) -> None:
    place = straight_run(world_size=1).copy_to(tmp_path / "trained")
    again = Path(shutil.copytree(place.base, tmp_path / "again"))
    change_json(again / "config.json", transformers_version="5.0.0", use_cache=False)
    driver.encode(str(place.run), settings(place, model__path=again, train__epochs=2))
    assert len(started) == 1


def test_a_checkpoint_that_knows_config_json_alone_still_goes_on(
    straight_run: Any, tmp_path: Path, started: list[Any]
) -> None:
    place = straight_run(world_size=1).copy_to(tmp_path / "trained")
    sha256 = EncodingManifest.load(place.run / "encoding").base_model.sha256
    manifest = place.run / "checkpoints" / "manifest.json"
    identity = json.loads(manifest.read_text())["identity"] | {"base model": sha256}
    change_json(manifest, identity=identity)
    save_config(settings(place), place.run)
    driver.encode(str(place.run), settings(place, train__epochs=2))
    assert len(started) == 1
    other = Path(shutil.copytree(place.base, tmp_path / "saved-anew"))
    change_json(other / "config.json", use_cache=False)
    with pytest.raises(ConfigError, match=r"config\.json tells.*set model\.path=") as refused:
        driver.encode(str(place.run), settings(place, model__path=other, train__epochs=2))
    assert str(place.base) in str(refused.value)


def drop_weights(base: Path) -> None:
    (base / "model.safetensors").unlink()


def pad_beyond(base: Path) -> None:
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    token = {"id": 300, "content": "<new>", "special": True, "normalized": False}
    token |= {"single_word": False, "lstrip": False, "rstrip": False}
    change_json(base / "tokenizer.json", added_tokens=[*tokenizer["added_tokens"], token])
    change_json(base / "tokenizer_config.json", pad_token="<new>")


def fewer_embeddings(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:200].clone()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    change_json(base / "config.json", vocab_size=200, eos_token_id=None, pad_token_id=None)
    change_json(base / "tokenizer_config.json", eos_token="a", pad_token="a")


def break_tokenizer(base: Path) -> None:
    (base / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Nothing"}}')


def changed(**values: object) -> Callable[[Path], None]:
    return lambda base: change_json(base / "config.json", **values)


def adapter(base: Path) -> None:
    text = {"base_model_name_or_path": "owner/the-base", "peft_type": "LORA"}
    (base / "adapter_config.json").write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_weights, r"no weights as \.safetensors"),
        (pad_beyond, r"pad token '<new>' has the id 258, .* 258 tokens; delete pad_token"),
        (fewer_embeddings, r"has the id 200, and the model has embeddings of 200 tokens"),
        (break_tokenizer, r"model\.path=.*can't be used"),
        (adapter, r"it is an adapter .*'owner/the-base'"),
        (changed(max_position_embeddings=64), r"data\.max_length=512.*has 64 positions"),
        (changed(rope_parameters={"rope_type": "spiral", "rope_theta": 1e4}), "spiral"),
        (changed(quantization_config={"quant_method": "gptq", "bits": 4}), "optimum|gptqmodel"),
        (changed(quantization_config={"quant_method": "none such"}), "quantization_config"),
        (changed(num_hidden_layers=10**9), r"num_hidden_layers=1000000000.*at most"),
        (changed(num_hidden_layers=-2), r"num_hidden_layers=-2.*at least 1"),
        (changed(hidden_size="many"), r"hidden_size"),
        (changed(vocab_size=10**9), r"numbers, and its files hold"),
        (changed(attn_implementation="owner/kernel"), r"attn_implementation='owner/kernel'"),
        (changed(is_encoder_decoder=True), r"encoder with a decoder"),
    ],
)
def test_what_would_fail_in_every_worker_is_one_line_before_anything_is_saved(
    workplace: Any,
    tmp_path: Path,
    started: list[Any],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    base = Path(shutil.copytree(workplace.base, tmp_path / "base"))
    spoil(base)
    with pytest.raises(ConfigError, match=message) as refused:
        driver.encode(str(workplace.run), settings(workplace, model__path=base))
    assert "\n" not in str(refused.value)
    assert str(base) in str(refused.value)
    assert not started
    assert not (workplace.run / "config.yaml").exists()


def test_experts_that_can_not_begin_to_learn_are_refused(
    workplace: Any, started: list[Any]
) -> None:
    with pytest.raises(ConfigError, match=r"train\.experts_lr=0 .* first training"):
        driver.encode(str(workplace.run), settings(workplace, train__experts_lr=0))
    assert not started


def test_a_path_that_is_not_there_asks_no_hub(
    workplace: Any, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.hub.cached_file", None)
    path = workplace.base / "nowhere"
    with pytest.raises(ConfigError, match="there is no directory"):
        driver.encode(str(workplace.run), settings(workplace, model__path=path))
    assert not started

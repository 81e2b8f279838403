"""Loading the frozen base model and its tokenizer from a directory or the hub."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from polyprag.config import ModelConfig
from polyprag.errors import ConfigError
from polyprag.method.finite import names_not_finite
from polyprag.pretrained import (
    LOAD_ERRORS,
    UnusableModelError,
    load_model,
    read_config,
    read_tokenizer,
)
from polyprag.pretrained.causality import check_causal, refuse_encoder_decoder
from polyprag.pretrained.generation_config import end_token_ids, forget_generation_config
from polyprag.pretrained.loading import check_size
from polyprag.pretrained.skeleton import skeleton_of
from polyprag.pretrained.unusable import in_one_line
from polyprag.pretrained.where import is_on_this_machine

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_base(
    config: ModelConfig, *, device: str | torch.device | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads the base model in eval mode, and its tokenizer.

    Only safetensors weights and code that transformers ships are loaded. A tokenizer that has no
    padding token pads with EOS.

    Args:
        config: path or hub name, revision, dtype.
        device: where to put the model; the current GPU when there is one, else the CPU.

    Returns:
        The model and the tokenizer.

    Raises:
        ConfigError: `model.path` isn't a causal LM that can be loaded; names why and what to do.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tokenizer = load_tokenizer(config)
    settings = base_config(config)
    try:
        model, bad = load_model(
            AutoModelForCausalLM,
            config.path,
            revision=config.revision,
            config=settings,
            dtype=_dtype(config, place),
        )
        check_causal(model)
    except LOAD_ERRORS as error:
        raise _cannot_load(config, error) from error
    _check_weights(config, bad)
    model = model.to(place).eval()
    _check_finite(config, model)
    base = cast(PreTrainedModel, model)
    forget_generation_config(base, eos_ids=end_token_ids(base, tokenizer))
    return base, tokenizer


def _check_weights(config: ModelConfig, bad: list[str]) -> None:
    if bad:
        raise ConfigError(
            f"model.path={config.path!r} can't be used: {len(bad)} of its weights are missing or "
            f"of another shape than config.json says, such as {bad[0]!r}; copy the model again, "
            "config.json and all of its .safetensors files"
        )


def _check_finite(config: ModelConfig, model: nn.Module) -> None:
    wrong = names_not_finite([*model.named_parameters(), *model.named_buffers()])
    if wrong:
        raise ConfigError(
            f"model.path={config.path!r} can't be used: {len(wrong)} of its weights hold numbers "
            f"that are infinite or undefined (NaN), such as {wrong[0]!r}; copy the model again, or "
            "take another revision of it"
        )


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """Loads the base model's tokenizer alone; see `load_base`."""
    try:
        tokenizer = read_tokenizer(config.path, revision=config.revision)
    except LOAD_ERRORS as error:
        raise _cannot_load(config, error) from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"model.path={config.path!r} can't be used: its tokenizer has no EOS token, which "
            "ends every example and answer; set eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return cast(PreTrainedTokenizerBase, tokenizer)


def base_config(config: ModelConfig) -> Any:
    """Returns the base model's config as transformers reads it; see `load_base`."""
    try:
        settings = read_config(config.path, revision=config.revision)
        refuse_encoder_decoder(settings)
    except LOAD_ERRORS as error:
        raise _cannot_load(config, error) from error
    return settings


def base_skeleton(config: ModelConfig) -> PreTrainedModel:
    """Returns the base model on PyTorch's `meta` device: names and shapes without weights.

    Raises:
        ConfigError: no causal LM can be made of its config.json.
    """
    settings = base_config(config)
    try:
        skeleton = skeleton_of(AutoModelForCausalLM, settings)
        check_causal(skeleton)
    except LOAD_ERRORS as error:
        raise _cannot_load(config, error) from error
    return cast(PreTrainedModel, skeleton)


def check_base_size(config: ModelConfig, skeleton: PreTrainedModel) -> None:
    """Refuses a base model whose weights aren't there, or are far fewer than config.json says.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    try:
        check_size(skeleton, config.path)
    except LOAD_ERRORS as error:
        raise _cannot_load(config, error) from error


def vocab_size_of(model: PreTrainedModel) -> int:
    """Returns how many tokens a model knows."""
    return int(model.config.get_text_config().vocab_size)


def _dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    if config.dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return _DTYPES[config.dtype]


def _cannot_load(config: ModelConfig, error: Exception) -> ConfigError:
    reason = in_one_line(error)
    if isinstance(error, UnusableModelError):
        return ConfigError(f"model.path={config.path!r} can't be used: {reason}")
    if is_on_this_machine(config.path):
        remedy = "it needs config.json, the tokenizer's files and weights as .safetensors"
        if "trust_remote_code" in str(error):
            remedy = "polyprag never runs a model's own code; take one that transformers ships"
    else:
        remedy = (
            f"{Path(config.path).absolute()} isn't a directory, and the hub gave no model of that "
            "name; check the path, or the name and the network (a gated model also needs "
            "`hf auth login`)"
        )
    return ConfigError(f"model.path={config.path!r} can't be loaded: {remedy} [{reason}]")

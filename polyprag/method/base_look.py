"""One look at the base model before anything is started or saved: what would fail in every worker.

Takes seconds, whatever the model's size: the model is made without weights, and of the weights only
the files' headers are read.
"""

import re
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.config import Config
from polyprag.errors import ConfigError
from polyprag.method.base_model import base_skeleton, check_base_size, load_tokenizer
from polyprag.method.experts import inject
from polyprag.method.support.check import check_skeleton
from polyprag.method.support.coverage import coverage
from polyprag.method.support.packing import check_prefix
from polyprag.pretrained.unusable import in_one_line

# Tables of learned positions, by the last part of their names; `embed_positions` of OPT and others
# has some rows more than there are positions, which max_position_embeddings tells.
_POSITIONS = re.compile(r"(embed_positions|position_embeddings?|positions_embed|wpe)")
_NOT_OF_THE_TEXT = ("vision", "visual", "audio", "image")


def look_at_base(config: Config, *, say: Callable[[str], None]) -> PreTrainedTokenizerBase:
    """Checks that a base model can be trained with these settings, without loading its weights.

    Args:
        config: of the run: base model, experts, router, `data.max_length`.
        say: takes a sentence for the user on what can be trained and isn't what one might expect.

    Returns:
        The base model's tokenizer, which had to be loaded for it.

    Raises:
        ConfigError: it can't; one line names the setting or the file, and what to change.
    """
    tokenizer = load_tokenizer(config.model)
    skeleton = base_skeleton(config.model)
    path = config.model.path
    _check_packages(path, skeleton.config)
    check_base_size(config.model, skeleton)
    _check_ids(path, skeleton, tokenizer)
    _check_positions(path, skeleton, config.data.max_length)
    check_prefix(config, tokenizer)
    pool = inject(skeleton, config.experts, config.router, seed=0)
    check_skeleton(skeleton, pool)
    if (warning := coverage(skeleton, pool).warning()) is not None:
        say(warning)
    return tokenizer


def _check_ids(path: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses tokens that are read or trained and that the embeddings have no row for."""
    embeddings: Any = model.get_input_embeddings()
    num_rows = int(getattr(embeddings, "num_embeddings", 0))
    if not num_rows:
        return
    for name in ("pad", "eos", "bos"):
        token_id = getattr(tokenizer, f"{name}_token_id")
        if token_id is None or 0 <= token_id < num_rows:
            continue
        remedy = (
            "delete pad_token from its tokenizer_config.json, and EOS pads"
            if name == "pad"
            else "take the tokenizer that belongs to these weights"
        )
        raise ConfigError(
            f"model.path={path!r} can't be used: its tokenizer's {name} token "
            f"{getattr(tokenizer, f'{name}_token')!r} has the id {token_id}, and the model has "
            f"embeddings of {num_rows} tokens; {remedy}"
        )
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    beyond = [
        (token_id, token)
        for token, token_id in tokenizer.get_vocab().items()
        if token_id >= num_rows and token_id not in special
    ]
    if beyond:
        token_id, token = min(beyond)
        raise ConfigError(
            f"model.path={path!r} can't be used: its tokenizer's {token!r} has the id {token_id}, "
            f"and the model has embeddings of {num_rows} tokens; take the tokenizer that belongs "
            "to these weights"
        )


def _check_positions(path: str, model: PreTrainedModel, max_length: int) -> None:
    """Refuses examples longer than the positions that the model has learned."""
    text = model.config.get_text_config()
    known = getattr(text, "max_position_embeddings", None)
    tables = [
        module.num_embeddings
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and _POSITIONS.fullmatch(name.rpartition(".")[2])
        and not any(word in name for word in _NOT_OF_THE_TEXT)
    ]
    is_rotary = getattr(text, "rope_parameters", None) is not None
    positions = min(tables, default=None)
    if isinstance(known, int) and known > 0 and (tables or is_rotary):
        positions = known if positions is None else min(known, positions)
    if positions is not None and max_length > positions:
        raise ConfigError(
            f"data.max_length={max_length} can't be used: model.path={path!r} has {positions} "
            f"positions; set data.max_length={positions} or less"
        )


def _check_packages(path: str, settings: Any) -> None:
    """Refuses a quantised checkpoint of an unknown kind, or whose package isn't installed."""
    quantised = getattr(settings, "quantization_config", None)
    if quantised is None:
        return
    from transformers.quantizers.auto import AutoHfQuantizer

    make: Any = AutoHfQuantizer.from_config
    try:
        quantiser = make(quantised, pre_quantized=True)
    except Exception as error:  # the checkpoint's own values go into it
        raise ConfigError(
            f"model.path={path!r} can't be used: its quantization_config can't be "
            f"[{in_one_line(error)}]; take the model unquantised"
        ) from error
    try:
        quantiser.validate_environment(device_map=None, weights_only=True)
    except ImportError as error:
        raise ConfigError(
            f"model.path={path!r} can't be used here: its weights are quantised, and a package "
            f"for it isn't installed [{in_one_line(error)}]; install it, or take the model "
            "unquantised"
        ) from error
    except Exception:  # such as the lack of a GPU, which the workers may have
        return

"""Whether a model's examples can share a row, each with its own mixture, as if each were alone."""

import logging
from collections.abc import Callable

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.config import Config
from polyprag.errors import ConfigError
from polyprag.method.batches.prefix import SharedPrefix, read_prefix
from polyprag.method.experts import ExpertPool
from polyprag.method.prompts import PromptTokenizer
from polyprag.method.support.check import expert_layers, is_of_machine
from polyprag.method.support.trial import Trial, UnsupportedModelError
from polyprag.method.support.trial_experts import random_experts
from polyprag.method.training_batch import Batcher

_LOG = logging.getLogger(__name__)
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def batcher_for(
    model: PreTrainedModel, pool: ExpertPool, config: Config, tokenizer: PreTrainedTokenizerBase
) -> Batcher:
    """Returns what makes a model's training batches; says so where it has to pad.

    Args:
        model: in eval mode, whole on one device, with `pool` injected.
        pool: the experts.
        config: whether to pack, how many tokens a batch may have, and whether experts leave the
            prompts' beginning alone.
        tokenizer: the model's.

    Raises:
        ConfigError: they are to, and there is no such beginning, or the model can't.
    """
    train = config.train
    pad_id = int(tokenizer.pad_token_id)
    if not train.packing:  # nor skips a prefix: the config refuses that
        return Batcher(pad_id, train.max_tokens, packs=False)
    reason = cannot_pack(model, pool)
    prefix = None
    if config.experts.skip_prefix:
        prefix = _prefix(model, pool, config, tokenizer, reason)
    elif reason is not None:
        _LOG.info(
            "examples are padded in groups of like length, as %s can't have several in a row: %s",
            type(model).__name__,
            reason,
        )
    return Batcher(pad_id, train.max_tokens, packs=reason is None, prefix=prefix)


def check_prefix(config: Config, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Returns what all prompts begin with, where experts are to leave it alone; else nothing.

    Raises:
        ConfigError: they begin with nothing.
    """
    if not config.experts.skip_prefix:
        return ()
    ids = PromptTokenizer(tokenizer, config.generation, skip_prefix=True).skipped_ids
    if not ids:
        raise ConfigError(
            "experts.skip_prefix=true can't be used: prompts in the plain layout begin with "
            "nothing that is the same in all of them; set experts.skip_prefix=false, or take a "
            "model with a chat template and generation.prompt=chat"
        )
    return ids


def _prefix(
    model: PreTrainedModel,
    pool: ExpertPool,
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
    reason: str | None,
) -> SharedPrefix:
    ids = check_prefix(config, tokenizer)
    reason = reason or cannot_share_prefix(model, pool)
    if reason is not None:
        raise ConfigError(
            f"experts.skip_prefix=true can't be used with model.path={config.model.path!r}: its "
            f"examples would have to share a row, and {reason}; set experts.skip_prefix=false"
        )
    return read_prefix(model, ids)


def cannot_pack(model: PreTrainedModel, pool: ExpertPool) -> str | None:
    """Returns why examples of this model can't share a row; None where they can.

    Two short sequences are tried in one row, and held against each alone.

    Args:
        model: in eval mode, with `pool` injected; on any device.
        pool: the experts.
    """
    if (attention := model.config._attn_implementation) != "sdpa":
        return f"its attention is {attention!r}, where packed rows are known to work with 'sdpa'"
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if other := sorted(kinds - _KNOWN_LAYERS):
        return f"it has layers of {', '.join(other)}"
    return _why_not(model, pool, Trial.pack)


def cannot_share_prefix(model: PreTrainedModel, pool: ExpertPool) -> str | None:
    """Returns why such rows can't go on from one prefix without experts; None where they can.

    Args:
        model: one that can pack.
        pool: the experts.
    """
    return _why_not(model, pool, Trial.share_prefix)


def _why_not(
    model: PreTrainedModel, pool: ExpertPool, attempt: Callable[[Trial], None]
) -> str | None:
    trial = Trial(model, pool, expert_layers(model, pool))
    with random_experts(trial.layers):
        try:
            attempt(trial)
        except UnsupportedModelError as error:
            return error.reason
        except Exception as error:  # of whatever code a model has
            if is_of_machine(error):
                raise
            return f"a trial failed [{type(error).__name__}: {' '.join(str(error).split())[:200]}]"
    return None

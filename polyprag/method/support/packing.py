"""Whether a model's examples can share a row, each with its own mixture, as if each were alone."""

import logging

from transformers import PreTrainedModel

from polyprag.config import TrainConfig
from polyprag.method.experts import ExpertPool
from polyprag.method.support.check import expert_layers, is_of_machine
from polyprag.method.support.trial import Trial, UnsupportedModelError
from polyprag.method.support.trial_experts import random_experts
from polyprag.method.training_batch import Batcher

_LOG = logging.getLogger(__name__)
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def batcher_for(
    model: PreTrainedModel, pool: ExpertPool, config: TrainConfig, *, pad_id: int
) -> Batcher:
    """Returns what makes a model's training batches; says so where it has to pad.

    Args:
        model: in eval mode, with `pool` injected.
        pool: the experts.
        config: whether to pack, and how many tokens a batch may have.
        pad_id: token id on padding.
    """
    reason = cannot_pack(model, pool) if config.packing else None
    if reason is not None:
        _LOG.info(
            "examples are padded in groups of like length, as %s can't have several in a row: %s",
            type(model).__name__,
            reason,
        )
    return Batcher(pad_id, config.max_tokens, packs=config.packing and reason is None)


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
    trial = Trial(model, pool, expert_layers(model, pool))
    with random_experts(trial.layers):
        try:
            trial.pack()
        except UnsupportedModelError as error:
            return error.reason
        except Exception as error:  # of whatever code a model has
            if is_of_machine(error):
                raise
            return f"a trial failed [{type(error).__name__}: {' '.join(str(error).split())[:200]}]"
    return None

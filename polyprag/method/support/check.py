"""Whether a model can carry experts: a trial of a few tokens, whose outputs must be as they should.

Code that reads a Linear's weight and computes with it would silently pass the experts by; a model
that reorders tokens would give them other sequences' experts; and one that ignores padding answers
a batch of questions otherwise than each alone. None of this fails by itself.
"""

import logging
import re
from contextlib import ExitStack

from transformers import PreTrainedModel

from polyprag.errors import ConfigError
from polyprag.method.experts import ExpertPool, GatedLoRALinear
from polyprag.method.pass_gates import GateShapeError
from polyprag.method.support.trial import Trial
from polyprag.method.support.trial_experts import random_experts

_LOG = logging.getLogger(__name__)
_OF_MACHINES = re.compile(
    "AcceleratorError|OutOfMemory|CUDA|NVML|HIP error|out of memory|allocate memory", re.IGNORECASE
)


def check_experts(model: PreTrainedModel, pool: ExpertPool) -> None:
    """Tries a model with experts on two short sequences, each with gates of its own.

    It trains and generates as the product does, with random B in place of the pool's (which may
    still be zero), and puts everything back.

    Args:
        model: in eval mode, with `pool` injected; on any device.
        pool: its parameters require gradients.

    Raises:
        UnsupportedModelError: experts would be passed by, or meet other sequences' tokens.
    """
    trial = Trial(model, pool, expert_layers(model, pool))
    with ExitStack() as stack:
        stack.enter_context(random_experts(trial.layers))
        stack.enter_context(trial.watching())
        try:
            trial.train()
            trial.generate()
        except GateShapeError as error:
            raise trial.reordered() from error
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if is_of_machine(error):
                raise
            reason = " ".join(str(error).split())[:300]
            raise trial.refusal(
                f"a trial on two short sequences failed [{type(error).__name__}: {reason}]"
            ) from error


def is_of_machine(error: Exception) -> bool:
    """Whether a machine failed, which says nothing of the model."""
    return _OF_MACHINES.search(f"{type(error).__name__}: {error}") is not None


def check_skeleton(model: PreTrainedModel, pool: ExpertPool) -> None:
    """Refuses what a model without weights shows already; `check_experts` needs its weights.

    Args:
        model: on the `meta` device, with `pool` injected.
        pool: the experts.

    Raises:
        UnsupportedModelError: experts would be passed by, or tokens are reordered.
    """
    trial = Trial(model, pool, expert_layers(model, pool))
    with trial.watching():
        try:
            trial.run_layers()
        except GateShapeError as error:
            raise trial.reordered() from error
        except ConfigError:
            raise
        except Exception:
            # What depends on values can't run without them, such as the choice of routed experts.
            _LOG.debug("no trial without weights", exc_info=True)
            trial.check_reads()


def expert_layers(model: PreTrainedModel, pool: ExpertPool) -> dict[str, GatedLoRALinear]:
    """Returns a pool's layers in the model, by name."""
    return {
        name: module
        for name in pool.module_names
        if isinstance(module := model.get_submodule(name), GatedLoRALinear)
    }

"""Trials that went well are remembered on this machine, so that answers come sooner."""

import hashlib
import json
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedModel

from polyprag.config.trust import state_file
from polyprag.method.experts import ExpertPool
from polyprag.method.support.check import check_experts

_TRIED = "tried"
_PACKAGES = ("polyprag", "torch", "transformers")


def check_experts_once(model: PreTrainedModel, pool: ExpertPool, *, weights: str) -> None:
    """Does as `check_experts`, unless that went well here before with all that it depends on.

    Args:
        model: see there.
        pool: see there.
        weights: stands for the model's weights.

    Raises:
        UnsupportedModelError: experts would be passed by, or meet other sequences' tokens.
    """
    known = state_file().parent / _TRIED / _digest(model, pool, weights)
    if known.exists():
        return
    check_experts(model, pool)
    with suppress(OSError):  # a home that can't be written to: it is tried each time
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()


def _digest(model: PreTrainedModel, pool: ExpertPool, weights: str) -> str:
    """Returns another digest for whatever might end another trial otherwise."""
    depends = {
        "model": [type(model).__qualname__, model.config.to_json_string(use_diff=False), weights],
        "at": [str(model.dtype), model.device.type],
        "experts": [pool.num_experts, pool.rank, sorted(pool.module_names)],
        "versions": list(map(version, _PACKAGES)),
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(depends, allow_nan=False).encode()).hexdigest()


@lru_cache(maxsize=1)
def _code() -> str:
    """Returns a digest of the code that puts experts into a model, and of the trial."""
    found = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()

"""A step whose loss or gradients aren't finite: all workers refuse it, and say what gave it.

It is refused before anything has changed: NaN in experts or rows would go into every checkpoint.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cluster.parallel.collectives import gather_json
from polyprag.config import Config
from polyprag.encoding.reader import DIVERGED
from polyprag.errors import RunError
from polyprag.method.examples import Example
from polyprag.method.finite import rows_not_finite
from sharding.stream.lane import LaneBatch

_NAMED = 3  # passages, in a message
_REFUSED = "isn't taken, and has changed nothing"


def refuse_step(
    step: int,
    config: Config,
    *,
    lanes: Sequence[LaneBatch[Example]],
    groups: Sequence[Sequence[Example]],
    losses: Sequence[Tensor],
    ids: npt.NDArray[np.int64],
    rows_MSK: Tensor,
    grad_MSK: Tensor | None,
    key_of: Callable[[int], str],
) -> NoReturn:
    """Raises on every worker what made a step's loss or rows' gradients infinite or undefined.

    Every worker of the process group must call it.

    Args:
        step: from 1.
        config: of the run.
        lanes: that this worker read in the step.
        groups: the examples of each of its physical batches.
        losses: of each of them, and of the empty ones after them.
        ids: (M,) its passages.
        rows_MSK: their rows as they were before the step.
        grad_MSK: of their rows; None where no example had a loss.
        key_of: the key of a passage.

    Raises:
        RunError: names the step, the lanes, the passages and what to change.
    """
    are_finite = torch.isfinite(torch.stack(list(losses))).tolist()
    suspects = set(ids[rows_not_finite(rows_MSK)].tolist())
    were_finite = not suspects
    if were_finite and grad_MSK is not None:
        # A row's gradient comes from its own passage's examples alone.
        suspects = set(ids[rows_not_finite(grad_MSK)].tolist())
    if not suspects:
        for group, is_finite in zip(groups, are_finite, strict=False):
            if not is_finite:
                suspects |= {example.passage_id for example in group}
    mine = {
        "rows": were_finite,
        "loss": all(are_finite),
        "passages": len(ids),
        "suspects": len(suspects),
        "named": [_name(passage, key_of) for passage in sorted(suspects)[:_NAMED]],
        "lanes": [
            lane.lane
            for lane in lanes
            if suspects.intersection(example.passage_id for example in lane.items)
        ],
    }
    everyone = gather_json(mine)
    what, remedy = "the gradients of routing rows aren't finite", _remedy(config)
    if not all(worker["rows"] for worker in everyone):
        what, remedy = "its routing rows weren't finite before it", DIVERGED
        everyone = [worker for worker in everyone if not worker["rows"]]
    elif not all(worker["loss"] for worker in everyone):
        what = "its loss isn't finite"
    raise RunError(f"step {step} {_REFUSED}: {what}{_where(everyone)}; {remedy}")


def refuse_gradients(step: int, config: Config) -> NoReturn:
    """Raises that the gradients of the experts aren't finite; on every worker.

    Raises:
        RunError: names the step and what to change.
    """
    what = "the gradients of the experts are infinite, undefined or beyond what a float holds"
    raise RunError(f"step {step} {_REFUSED}: {what}; {_remedy(config)}")


def _name(passage: int, key_of: Callable[[int], str]) -> str:
    return f"{key_of(passage)!r} (passage {passage})"


def _where(everyone: Sequence[dict[str, Any]]) -> str:
    """Returns `, in lane 3: 'p17' (passage 17)` of what each worker found."""
    num_suspects = sum(worker["suspects"] for worker in everyone)
    if not num_suspects:
        return ""
    lanes = sorted(lane for worker in everyone for lane in worker["lanes"])
    named = [name for worker in everyone for name in worker["named"]][:_NAMED]
    left = num_suspects - len(named)
    said = f", in lane{'s' if len(lanes) > 1 else ''} {', '.join(map(str, lanes))}: "
    said += ", ".join(named) + (f" and {left} more" if left else "")
    if num_suspects == sum(worker["passages"] for worker in everyone):
        said += ", which are all passages of the step"
    return said


def _remedy(config: Config) -> str:
    train = config.train
    ways = [
        f"lower train.experts_lr ({train.experts_lr:g} now) or train.rows_lr ({train.rows_lr:g})"
    ]
    if not train.grad_clip:
        ways.append("set train.grad_clip=1 (0 now: any size)")
    if not train.rows_grad_clip:
        ways.append("set train.rows_grad_clip=1 (0 now: any size)")
    if config.model.dtype != "fp32":
        ways.append(f"compute in model.dtype=fp32 ({config.model.dtype} now)")
    return (
        f"checkpoints stay as they were. {'; or '.join(ways)}; and run the command again, which "
        "goes on from the last checkpoint. Where it is the same few passages every time, look at "
        "their text"
    )

"""The learning-rate schedule, a pure function of the global step."""

import math


def rate_factor(step: int, total_steps: int, *, schedule: str, warmup_ratio: float) -> float:
    """Returns what both learning rates are multiplied by at a step.

    Args:
        step: global step, from 0.
        total_steps: of the whole run.
        schedule: constant | linear | cosine; the latter two end near 0.
        warmup_ratio: share of the steps over which the rate rises from near 0.

    Returns:
        A factor in (0, 1].
    """
    warmup = round(warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    left = (total_steps - step) / max(total_steps - warmup, 1)
    return left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))

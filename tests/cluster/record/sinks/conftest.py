"""Steps to write to sinks."""

from collections.abc import Callable

import pytest

from cluster.record.metrics import StepMetrics


@pytest.fixture
def step_metrics() -> Callable[..., StepMetrics]:
    """Makes the metrics of a step; other fields than its number by name."""

    def make(step: int, **changed: float) -> StepMetrics:
        fields: dict[str, float] = {
            "epoch": 0,
            "loss": 1.0 / step,
            "examples": 4,
            "tokens": 100,
            "seconds": 0.5,
            "world_size": 2,
            "experts_lr": 1e-3,
            "rows_lr": 1e-1,
        }
        return StepMetrics(step=step, **{**fields, **changed})  # type: ignore[arg-type]

    return make

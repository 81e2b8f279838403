"""Exact training: the same bits on any number of workers and after a resize."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding
from polyprag.errors import ConfigError

pytestmark = pytest.mark.slow
EXACT = {"train__exact": True}


def bits(run: Any) -> dict[str, bytes]:
    """Every number of an encoding."""
    encoding = Encoding.load(run)
    tensors = {name: tensor.numpy() for name, tensor in encoding.expert_state().items()}
    tensors["rows"] = encoding.rows(np.arange(encoding.manifest.num_passages))
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("world_size", [2, 3])
def test_any_number_of_workers_gives_the_same_bits(
    workplace: Any, train_workers: Callable[..., None], straight_run: Any, world_size: int
) -> None:
    alone = straight_run(world_size=1, **EXACT)
    train_workers(workplace, world_size=world_size, **EXACT)
    assert workplace.losses() == alone.losses()
    assert bits(workplace.run) == bits(alone.run)


def test_a_run_that_is_killed_and_goes_on_with_other_workers_ends_with_the_same_bits(
    workplace: Any, train_workers: Callable[..., None], straight_run: Any
) -> None:
    alone = straight_run(world_size=1, **EXACT)
    train_workers(workplace, world_size=3, die_at=5, **EXACT)
    train_workers(workplace, world_size=2, die_at=9, **EXACT)
    train_workers(workplace, world_size=1, **EXACT)
    assert workplace.losses() == alone.losses()
    assert bits(workplace.run) == bits(alone.run)


def test_it_learns_what_deepspeed_learns(straight_run: Any) -> None:
    exact, plain = straight_run(world_size=1, **EXACT), straight_run(world_size=1)
    np.testing.assert_allclose(exact.losses()[:8], plain.losses()[:8], atol=1e-5)


@pytest.mark.parametrize("other", ["deepspeed.stage=3", "deepspeed.config=deepspeed/zero1"])
def test_what_contradicts_it_is_refused(other: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.exact"):
        load_config([], ["train.exact=true", other])

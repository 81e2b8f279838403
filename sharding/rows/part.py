"""A partition's slice of the routing table with its Adam moments, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sharding.corpus.manifest import Partition

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
Int32Array = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(slots=True)
class RowPartition:
    """The routing rows of one partition's passages and their optimiser state.

    Attributes:
        index: the partition's number.
        first_id: passage id of row 0.
        rows: float32 (n, S, K): logits of n passages at S sites over K experts.
        exp_avg: float32 (n, S, K), Adam's first moment.
        exp_avg_sq: float32, Adam's second moment: (n, S, K), or of each site (n, S, 1), or of each
            row (n, 1, 1).
        steps: int32 (n,), the updates that each row has had.
    """

    index: int
    first_id: int
    rows: Float32Array
    exp_avg: Float32Array
    exp_avg_sq: Float32Array
    steps: Int32Array

    def __post_init__(self) -> None:
        if self.rows.ndim != 3:
            raise ValueError(f"rows must have shape (n, S, K), not {self.rows.shape}")
        n, sites, _ = shape = self.rows.shape
        for name, allowed in (
            ("rows", [shape]),
            ("exp_avg", [shape]),
            ("exp_avg_sq", [shape, (n, sites, 1), (n, 1, 1)]),
        ):
            array = getattr(self, name)
            if array.dtype != np.float32 or array.shape not in allowed:
                raise ValueError(f"{name} must be float32 {shape}, not {array.dtype} {array.shape}")
        if self.steps.dtype != np.int32 or self.steps.shape != self.rows.shape[:1]:
            raise ValueError(
                f"steps must be int32 {self.rows.shape[:1]}, "
                f"not {self.steps.dtype} {self.steps.shape}"
            )

    @property
    def num_bytes(self) -> int:
        """Of all arrays."""
        arrays = (self.rows, self.exp_avg, self.exp_avg_sq, self.steps)
        return sum(array.nbytes for array in arrays)


def init_rows(
    partition: Partition,
    *,
    sites: int,
    experts: int,
    std: float,
    seed: int,
    second_moment: str = "element",
) -> RowPartition:
    """Returns untrained rows: random codes from N(0, std^2), a function of (seed, partition) only.

    Args:
        partition: whose passages.
        sites: S of a row.
        experts: K of a row.
        std: standard deviation of every logit.
        seed: of the run.
        second_moment: what has one of its own: an "element", a "site" or a "row".
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(partition.index,))
    generator = np.random.Generator(np.random.Philox(sequence))
    shape = (partition.num_passages, sites, experts)
    rows = generator.standard_normal(shape, dtype=np.float32)
    rows *= np.float32(std)
    return without_moments(partition.index, partition.first_id, rows, second_moment)


def ids_with_state(part: RowPartition, ids: Sequence[int]) -> list[int]:
    """Returns the passages of some whose rows, moments or steps aren't all zero."""
    at = np.array(ids, np.int64) - part.first_id
    has_state = np.zeros(len(at), np.bool_)
    for array in _state(part):
        has_state |= array[at].any(axis=tuple(range(1, array.ndim)))
    left: list[int] = (at[has_state] + part.first_id).tolist()
    return left


def forget(part: RowPartition, ids: Sequence[int]) -> bool:
    """Zeroes rows, moments and steps of passages of a partition; whether anything was left."""
    at = np.array(ids_with_state(part, ids), np.int64) - part.first_id
    for array in _state(part):
        array[at] = 0
    return len(at) > 0


def _state(part: RowPartition) -> tuple[np.ndarray[Any, Any], ...]:
    return part.rows, part.exp_avg, part.exp_avg_sq, part.steps


def second_moment_shape(rows_shape: tuple[int, ...], second_moment: str) -> tuple[int, ...]:
    """Returns the second moments' shape: one an "element", "site" or "row" of (n, S, K) rows."""
    n, sites, experts = rows_shape
    return {"element": (n, sites, experts), "site": (n, sites, 1), "row": (n, 1, 1)}[second_moment]


def without_moments(
    index: int, first_id: int, rows: Float32Array, second_moment: str
) -> RowPartition:
    """Returns rows with moments and steps of zero, which take no memory until they are touched."""
    # zeros, unlike zeros_like, leaves it to the system to fill pages when they are touched
    first = np.zeros(rows.shape, np.float32)
    second = np.zeros(second_moment_shape(rows.shape, second_moment), np.float32)
    return RowPartition(index, first_id, rows, first, second, np.zeros(len(rows), np.int32))

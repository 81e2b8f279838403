"""A partition's slice of the routing table with its Adam moments, as one safetensors file.

Reading and writing need one file and no communication: a row is only touched by the worker that
streams its passage.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sharding.errors import CorpusError
from sharding.files import atomic_write, open_url
from sharding.manifest import Partition

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
Int32Array = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(slots=True)
class RowPartition:
    """The routing rows of one partition's passages and their optimiser state.

    Attributes:
        index: The partition's number.
        first_id: Passage id of row 0.
        rows: float32 (n, S, K): logits of n passages at S sites over K experts.
        exp_avg: float32 (n, S, K), Adam's first moment.
        exp_avg_sq: float32 (n, S, K), Adam's second moment.
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
        for name in ("rows", "exp_avg", "exp_avg_sq"):
            array = getattr(self, name)
            if array.dtype != np.float32 or array.shape != self.rows.shape:
                raise ValueError(
                    f"{name} must be float32 {self.rows.shape}, not {array.dtype} {array.shape}"
                )
        if self.steps.dtype != np.int32 or self.steps.shape != self.rows.shape[:1]:
            raise ValueError(
                f"steps must be int32 {self.rows.shape[:1]}, "
                f"not {self.steps.dtype} {self.steps.shape}"
            )


def init_rows(
    partition: Partition, *, sites: int, experts: int, std: float, seed: int
) -> RowPartition:
    """Untrained rows: random codes from N(0, std^2), a function of (seed, partition) only.

    Args:
        partition: Whose passages.
        sites: S of a row.
        experts: K of a row.
        std: Standard deviation of every logit.
        seed: Of the run.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(partition.index,))
    generator = np.random.Generator(np.random.Philox(sequence))
    shape = (partition.num_passages, sites, experts)
    rows = generator.standard_normal(shape, dtype=np.float32) * np.float32(std)
    return _without_moments(partition.index, partition.first_id, rows)


def save_rows(url: str | Path, part: RowPartition, *, moments: bool = True) -> tuple[str, int]:
    """Writes a partition's rows, atomically; equal rows give equal bytes.

    Args:
        url: The safetensors file.
        part: What to write.
        moments: Whether the optimiser's state goes with it (a checkpoint) or not (an encoding).

    Returns:
        The file's SHA-256 in hex, and its bytes.
    """
    tensors: dict[str, np.ndarray[Any, Any]] = {"rows": part.rows}
    if moments:
        tensors |= {"exp_avg": part.exp_avg, "exp_avg_sq": part.exp_avg_sq, "steps": part.steps}
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    metadata = {"first_id": str(part.first_id), "index": str(part.index)}
    data = _with_sorted_header(save(contiguous, metadata))
    with atomic_write(url) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest(), len(data)


def load_rows(url: str | Path, *, sha256: str | None = None) -> RowPartition:
    """Reads what `save_rows` wrote; without moments in the file they and the steps are zero.

    Args:
        url: The safetensors file.
        sha256: What its hash must be, when it is known.

    Returns:
        The rows, in arrays of their own that may be changed.

    Raises:
        CorpusError: The file is missing or damaged, has another hash, or its tensors don't fit.
    """
    with open_url(url) as file:
        data: bytes = file.read()
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise CorpusError(f"{url}: SHA-256 differs from what was recorded; {_REMEDY}")
    try:
        tensors = load(data)
        metadata = _header(data)["__metadata__"]
        index, first_id = int(metadata["index"]), int(metadata["first_id"])
        if tensors.keys() == {"rows"}:
            return _without_moments(index, first_id, tensors["rows"])
        return RowPartition(index, first_id, **tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{url}: not a file of routing rows ({error}); {_REMEDY}") from error


_REMEDY = "it is damaged: copy it again, or go back to an earlier checkpoint"


def _without_moments(index: int, first_id: int, rows: Float32Array) -> RowPartition:
    steps = np.zeros(len(rows), np.int32)
    return RowPartition(index, first_id, rows, np.zeros_like(rows), np.zeros_like(rows), steps)


def _header(data: bytes) -> dict[str, Any]:
    """A safetensors file's JSON header: 8 bytes of length, then the JSON."""
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    return header


def _with_sorted_header(data: bytes) -> bytes:
    """The same file with its header's keys sorted: safetensors writes metadata in random order."""
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(_header(data), sort_keys=True, separators=(",", ":")).encode()
    return data[:8] + text.ljust(length) + data[8 + length :]

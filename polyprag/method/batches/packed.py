"""Examples packed into one row, so that no token of a batch is padding.

Every layer but attention works on tokens alone, and has as many as there are. Attention needs to
know whose tokens are whose: where the GPU's fused kernel takes sequences of any length, it gets
where each starts; elsewhere sequences of like length are attended to together, as a padded block
each. All of this is worked out once a batch, not in each layer.

Shapes: N tokens of B sequences, P places of the padded blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polyprag.method.batches.padded import TokenSequence, length_groups
from polyprag.method.batches.prefix import SharedPrefix
from polyprag.method.examples import IGNORED

_BLOCK_OVERHEAD = 64  # tokens that attending to one block more costs


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Which tokens of a packed row belong together.

    Attributes:
        position_ids: (1, N) int64, of each token in its sequence, after the prefix.
        token_rows: (1, N) int64, the sequence of each token.
        starts: (B + 1,) int32, where each sequence starts, and where the last one ends.
        longest: tokens of the longest sequence.
        blocks: (sequences, longest) of each block; sequences lie in order of length.
        places: (P,) int64, the token at each place of the blocks, one after the other. On padding
            it is the sequence's first.
        tokens: (N,) int64, the place of each token.
        prefix: that every sequence goes on from; None where they are whole.
    """

    position_ids: Tensor
    token_rows: Tensor
    starts: Tensor
    longest: int
    blocks: tuple[tuple[int, int], ...]
    places: Tensor
    tokens: Tensor
    prefix: SharedPrefix | None = None

    def to(self, device: torch.device) -> "Packing":
        """Returns the same on a device."""
        names = ("position_ids", "token_rows", "starts", "places", "tokens")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


class PackedBatch(NamedTuple):
    """One row of int64 tensors (1, N).

    Labels are -100 on the first token of each sequence, too, which nothing before it predicts.
    """

    input_ids: Tensor
    labels: Tensor
    packing: Packing


def row_groups(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Splits examples into as few rows as hold them, each in order of length.

    Args:
        lengths: tokens of each example.
        max_tokens: of a row; one longer example makes a row alone.

    Returns:
        Indices into `lengths`: every one in exactly one row, shortest row first.
    """
    groups: list[list[int]] = []
    room = 0
    for index in np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        if lengths[index] > room:
            groups.append([])
            room = max_tokens
        groups[-1].append(index)
        room -= lengths[index]
    return groups


def packing_of(lengths: Sequence[int], prefix: SharedPrefix | None = None) -> Packing:
    """Returns how sequences lie in one row.

    Args:
        lengths: of each, in ascending order, without the prefix.
        prefix: that they go on from, on the model's device.
    """
    of_each = np.asarray(lengths, dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum(of_each)))
    places, tokens = [], np.empty(starts[-1], np.int64)
    blocks = []
    num_places = 0
    for group in length_groups(lengths, int(starts[-1]) * 2, overhead=_BLOCK_OVERHEAD):
        longest = int(of_each[group[-1]])
        at_BT = np.arange(longest) + np.zeros((len(group), 1), np.int64)
        is_real_BT = at_BT < of_each[group, None]
        places.append((starts[group, None] + np.where(is_real_BT, at_BT, 0)).ravel())
        first, last = starts[group[0]], starts[group[-1] + 1]
        tokens[first:last] = num_places + np.flatnonzero(is_real_BT)
        blocks.append((len(group), longest))
        num_places += is_real_BT.size
    rows = np.repeat(np.arange(len(of_each)), of_each)
    return Packing(
        position_ids=_row(np.arange(starts[-1]) - starts[rows] + len(prefix or ())),
        token_rows=_row(rows),
        starts=torch.from_numpy(starts.astype(np.int32)),
        longest=int(of_each[-1]),
        blocks=tuple(blocks),
        places=torch.from_numpy(np.concatenate(places)),
        tokens=torch.from_numpy(tokens),
        prefix=prefix,
    )


def pack_batch(
    examples: Sequence[TokenSequence], prefix: SharedPrefix | None = None
) -> PackedBatch:
    """Joins examples, in ascending order of length and at least one, into one row.

    Args:
        examples: without the prefix.
        prefix: that they go on from.
    """
    packing = packing_of([len(example.input_ids) for example in examples], prefix)
    labels = np.concatenate([example.labels for example in examples])
    labels[packing.starts[:-1].numpy()] = IGNORED
    return PackedBatch(
        _row(np.concatenate([example.input_ids for example in examples])), _row(labels), packing
    )


def _row(numbers: npt.NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(numbers.astype(np.int64))[None]

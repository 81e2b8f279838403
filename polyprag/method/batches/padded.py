"""Joining examples into physical batches with as little padding as can be."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polyprag.method.examples import IGNORED

PASS_OVERHEAD = 64  # tokens that take as long as a pass takes at least, on a CPU
# As that, elsewhere. A guess: a pass of some 30 layers is launched in 20 ms, in which such a device
# reads about as many tokens.
_LAUNCHES_OVERHEAD = 1024


def pass_overhead(device: torch.device) -> int:
    """Returns how many tokens take as long as a pass takes at least."""
    return PASS_OVERHEAD if device.type == "cpu" else _LAUNCHES_OVERHEAD


class TokenSequence(Protocol):
    """What can be batched, such as `polyprag.method.examples.Example`."""

    @property
    def input_ids(self) -> npt.NDArray[np.int32]:
        """(T,) token ids."""

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """(T,) labels, -100 where there is no loss."""


class PaddedBatch(NamedTuple):
    """Right-padded int64 tensors of shape (B, T); labels are -100 on padding."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def length_groups(
    lengths: Sequence[int], max_tokens: int, *, overhead: int = PASS_OVERHEAD
) -> list[list[int]]:
    """Splits examples into groups of similar length at the least total cost, exactly.

    The cost of a group is its padded size (number x longest) plus `overhead`. Some best split
    always keeps examples in order of length, so a dynamic programme over that order finds it.

    Args:
        lengths: tokens of each example.
        max_tokens: largest padded size of a group; one longer example makes a group alone.
        overhead: what another group costs, in tokens (a forward and backward pass has a floor).

    Returns:
        Indices into `lengths`: every one in exactly one group, shortest group first.
    """
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    sorted_lengths = np.asarray(lengths, dtype=np.int64)[order]
    num = len(order)
    best = np.zeros(num + 1, dtype=np.int64)  # of the shortest j examples
    start = np.zeros(num + 1, dtype=np.int64)  # where the last group of that split begins
    for end in range(1, num + 1):
        longest = int(sorted_lengths[end - 1])
        most = max(1, max_tokens // max(longest, 1))
        begins = np.arange(max(0, end - most), end)
        costs = best[begins] + (end - begins) * longest + overhead
        choice = int(np.argmin(costs))
        best[end], start[end] = costs[choice], begins[choice]

    groups: list[list[int]] = []
    end = num
    while end > 0:
        groups.append(order[start[end] : end].tolist())
        end = int(start[end])
    return groups[::-1]


def pad_batch(examples: Sequence[TokenSequence], pad_id: int) -> PaddedBatch:
    """Right-pads examples to the longest of them.

    Args:
        examples: at least one.
        pad_id: the token id on padding; the attention mask is 0 there.
    """
    shape = len(examples), max(len(example.input_ids) for example in examples)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    for i, example in enumerate(examples):
        n = len(example.input_ids)
        input_ids[i, :n] = example.input_ids
        attention_mask[i, :n] = 1
        labels[i, :n] = example.labels
    return PaddedBatch(*map(torch.from_numpy, (input_ids, attention_mask, labels)))

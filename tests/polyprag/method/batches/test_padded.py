"""Length groups against brute force, and padding."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.method.batches.padded import length_groups, pad_batch
from polyprag.method.examples import Example


def cost(groups: list[list[int]], lengths: list[int], overhead: int) -> int:
    return sum(len(group) * max(lengths[i] for i in group) + overhead for group in groups)


def fits(group: list[int], lengths: list[int], max_tokens: int) -> bool:
    return len(group) == 1 or len(group) * max(lengths[i] for i in group) <= max_tokens


def partitions(items: list[int]) -> list[list[list[int]]]:
    """Every way to split items into groups, in any order of length."""
    if not items:
        return [[]]
    first, rest = items[0], items[1:]
    found = []
    for split in partitions(rest):
        found.append([[first], *split])
        found += [[*split[:i], [first, *split[i]], *split[i + 1 :]] for i in range(len(split))]
    return found


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), max_size=6),
    max_tokens=st.integers(1, 90),
    overhead=st.integers(0, 40),
)
def test_groups_cost_as_little_as_the_best_of_all_splits(
    lengths: list[int], max_tokens: int, overhead: int
) -> None:
    groups = length_groups(lengths, max_tokens, overhead=overhead)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(fits(group, lengths, max_tokens) for group in groups)
    best = min(
        cost(split, lengths, overhead)
        for split in partitions(list(range(len(lengths))))
        if all(fits(group, lengths, max_tokens) for group in split)
    )
    assert cost(groups, lengths, overhead) == best


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 300), max_size=200), max_tokens=st.integers(1, 2000))
def test_groups_hold_everything_once_within_the_limit(lengths: list[int], max_tokens: int) -> None:
    groups = length_groups(lengths, max_tokens)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(fits(group, lengths, max_tokens) for group in groups)
    longest = [max(lengths[i] for i in group) for group in groups]
    assert all(a <= b for a, b in pairwise(longest))
    assert groups == length_groups(lengths, max_tokens), "the same split every time"


def test_padding_is_masked_and_has_no_loss() -> None:
    examples = [
        Example(0, np.array([5, 6, 7], np.int32), np.array([-100, 6, 7], np.int32)),
        Example(1, np.array([8], np.int32), np.array([8], np.int32)),
    ]
    input_ids, attention_mask, labels = pad_batch(examples, 9)
    assert input_ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert labels.tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert {t.dtype for t in (input_ids, attention_mask, labels)} == {torch.int64}

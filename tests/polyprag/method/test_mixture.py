"""Mixtures against scipy's softmax and plain loops."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from polyprag.config import RetrievalConfig
from polyprag.method.mixture import mix_gates, weights

S, K = 3, 4
SCORES = [[7.1, 5.0, 4.9], [1.0, 1.0, -2.0]]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (RetrievalConfig(mixture="softmax"), softmax(SCORES, axis=-1)),
        (
            RetrievalConfig(mixture="softmax", temperature=4.0),
            softmax(np.divide(SCORES, 4.0), axis=-1),
        ),
        (RetrievalConfig(mixture="mean"), np.full((2, 3), 1 / 3)),
        (RetrievalConfig(mixture="sum"), np.ones((2, 3))),
    ],
)
def test_mixture_is_the_weighted_sum_of_gates(
    config: RetrievalConfig, expected: np.ndarray
) -> None:
    gates = torch.randn(2, 3, S, K, generator=torch.Generator().manual_seed(0))
    scores = torch.tensor(SCORES)
    np.testing.assert_allclose(weights(scores, config), expected, rtol=1e-6)
    mixed = mix_gates(gates, weights(scores, config))
    for b in range(2):
        want = sum(float(expected[b, i]) * gates[b, i] for i in range(3))
        torch.testing.assert_close(mixed[b], want, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(mix_gates(gates[b], weights(scores[b], config)), mixed[b])


@pytest.mark.parametrize("mixture", ["softmax", "mean", "sum"])
def test_a_place_without_a_passage_counts_nothing(mixture: str) -> None:
    config = RetrievalConfig(mixture=mixture)
    gates = torch.randn(3, S, K)
    scores = torch.tensor([2.0, 1.0, -torch.inf])
    short = mix_gates(gates[:2], weights(scores[:2], config))
    torch.testing.assert_close(mix_gates(gates, weights(scores, config)), short)
    nothing = mix_gates(gates, weights(torch.full((3,), -torch.inf), config))
    assert not nothing.any()


def test_scores_of_any_size_stay_finite() -> None:
    config = RetrievalConfig(mixture="softmax", temperature=0.01)
    assert weights(torch.tensor([3e4, 1.0]), config).tolist() == [1.0, 0.0]

"""Gates: their formulas, top-k and sampling."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import RelaxedBernoulli

from polyprag.config import RouterConfig
from polyprag.method.linears import sites_of
from polyprag.method.router import gates

GATES = ("linear", "tanh", "softmax", "sigmoid")
finite = st.floats(-80, 80, width=32)


@st.composite
def rows_and_config(draw: st.DrawFn) -> tuple[torch.Tensor, RouterConfig]:
    k = draw(st.integers(1, 9))
    sites = draw(st.integers(1, 3))
    row = st.lists(finite, min_size=k, max_size=k)
    values = draw(st.lists(row, min_size=sites, max_size=sites))
    config = RouterConfig(gate=draw(st.sampled_from(GATES)), top_k=draw(st.integers(0, k)))
    return torch.tensor(values), config


@settings(max_examples=150, deadline=None)
@given(rows_and_config())
def test_gates_are_finite_and_keep_the_k_largest(case: tuple[torch.Tensor, RouterConfig]) -> None:
    rows, config = case
    got = gates(rows, config)
    assert got.shape == rows.shape and got.dtype == torch.float32
    assert got.isfinite().all()
    whole = gates(rows, RouterConfig(gate=config.gate))
    if config.top_k:
        assert ((got != 0).sum(-1) <= config.top_k).all()
        smallest_kept = whole.abs().sort(dim=-1, descending=True).values[..., config.top_k - 1]
        assert (whole.abs()[got != 0] >= smallest_kept[..., None].expand_as(got)[got != 0]).all()
    if config.gate in ("softmax", "sigmoid"):
        assert (got >= 0).all()
        torch.testing.assert_close(got.sum(-1), torch.ones(len(rows)))
    else:
        assert (got.abs() <= rows.abs() / math.sqrt(rows.shape[-1]) + 1e-6).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=9))
def test_gates_equal_their_formulas(values: list[float]) -> None:
    k = len(values)
    sigmoids = [1 / (1 + math.exp(-v)) for v in values]
    exps = [math.exp(v) for v in values]
    expected = {
        "linear": [v / math.sqrt(k) for v in values],
        "tanh": [math.tanh(v) / math.sqrt(k) for v in values],
        "softmax": [e / sum(exps) for e in exps],
        "sigmoid": [s / sum(sigmoids) for s in sigmoids],
    }
    for gate, want in expected.items():
        got = gates(torch.tensor([values]), RouterConfig(gate=gate))[0]
        torch.testing.assert_close(got, torch.tensor(want), atol=1e-6, rtol=1e-5)


def test_bf16_rows_give_fp32_gates() -> None:
    rows = torch.randn(2, 3, 4).bfloat16()
    for gate in GATES:
        got = gates(rows, RouterConfig(gate=gate, top_k=2))
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, gates(rows.float(), RouterConfig(gate=gate, top_k=2)))


@pytest.mark.parametrize("gate", GATES)
def test_dropped_experts_have_no_gradient(gate: str) -> None:
    rows = torch.tensor([[0.1, -3.0, 2.0, 1.0]], requires_grad=True)
    weights = torch.tensor([[1.0, -2.0, 3.0, 5.0]])
    (gates(rows, RouterConfig(gate=gate, top_k=2)) * weights).sum().backward()
    kept = [1, 2] if gate in ("linear", "tanh") else [2, 3]  # signed gates count by size
    assert rows.grad is not None
    assert rows.grad[0].nonzero().flatten().tolist() == kept


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_relaxed_bernoulli_equals_torch_distributions(temperature: float) -> None:
    rows = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        sample = RelaxedBernoulli(torch.tensor(temperature), logits=rows).rsample()
    config = RouterConfig(gate="sigmoid", relaxed_bernoulli=True, temperature=temperature)
    got = gates(rows, config, training=True, generator=torch.Generator().manual_seed(11))
    torch.testing.assert_close(got, sample / sample.sum(-1, keepdim=True), atol=1e-6, rtol=1e-5)
    plain = gates(rows, RouterConfig(gate="sigmoid"))
    assert torch.equal(gates(rows, config), plain), "answering never samples"


def test_sites_by_granularity() -> None:
    names = [
        f"model.layers.{i // 3}.mlp.{name}" for i, name in enumerate(["up", "down", "gate"] * 4)
    ]
    expected = {"model": [0] * 12, "layer": [i // 3 for i in range(12)], "module": [*range(12)]}
    for granularity, sites in expected.items():
        assert sites_of(names, granularity) == (
            dict(zip(names, sites, strict=True)),
            len(set(sites)),
        )

"""docs/models.md is what trials give, and what it says works equals merged weights."""

import importlib.util
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from polyprag.config import ExpertsConfig
from polyprag.method.batches.attention import attending_packed
from polyprag.method.examples import IGNORED, Example
from polyprag.method.experts import ExpertPool
from polyprag.method.loss import logits_at
from polyprag.method.training_batch import Batcher

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
K, RANK = 4, ExpertsConfig().rank
SCALE = ExpertsConfig().alpha / RANK


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "docs" / "models_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = loaded()


def test_the_page_is_what_trials_give() -> None:
    assert PAGE.PAGE.read_text(encoding="utf-8") == PAGE.page()


def table() -> list[list[str]]:
    """The rows of the page that are of architectures which can carry experts."""
    lines = [line for line in PAGE.PAGE.read_text(encoding="utf-8").splitlines() if "| `" in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[2].startswith("`") and row[0] != "`model_type`"]


def rows() -> dict[str, list[str]]:
    """The architectures of the page, with the Linears that it says can carry experts."""
    return {row[0].strip("`"): [name.strip("` ") for name in row[2].split(",")] for row in table()}


@pytest.mark.parametrize("model_type", [row[0].strip("`") for row in table() if row[5] == "packed"])
def test_what_can_be_packed_learns_what_it_learns_padded(model_type: str) -> None:
    model = PAGE.small(model_type)
    pool = PAGE.with_experts(model, rows()[model_type])
    generator = torch.Generator().manual_seed(5)
    for parameter in pool.parameters():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    gates = torch.randn(3, pool.num_sites, K, generator=generator)
    ids = [(40 + torch.randperm(50, generator=generator)[:n]).int().numpy() for n in (3, 5, 9)]
    examples = [Example(0, each, np.concatenate(([IGNORED] * 2, each[2:]))) for each in ids]
    found = []
    for packs in (False, True):
        leaf = gates.clone().requires_grad_()
        batch = Batcher(0, 1000, packs=packs).join(examples)
        with attending_packed(model) if packs else nullcontext():
            loss = batch.loss_sum(model, pool, leaf, distill_weight=1.0)
        found.append([loss, *torch.autograd.grad(loss, [leaf, *pool.parameters()])])
    padded, packed = found
    for left, right in zip(packed, padded, strict=True):
        assert (left - right).norm() <= 1e-4 * (1e-3 + right.norm())


def merged(base: nn.Module, pool: ExpertPool, gates_SK: Tensor) -> dict[str, Tensor]:
    """W + s * sum_k gates_k B_k A_k, for every Linear with experts."""
    weights, state = {}, pool.state_dict()
    for site, name in enumerate(pool.module_names):
        A, B = state[f"{name}.A"], state[f"{name}.B"]
        parts = [slice(k * RANK, (k + 1) * RANK) for k in range(K)]
        delta = sum(gates_SK[site, k] * B[:, part] @ A[part] for k, part in enumerate(parts))
        weights[f"{name}.weight"] = base.get_submodule(name).weight + SCALE * delta
    return weights


@pytest.mark.parametrize("model_type", rows())
def test_what_works_equals_merged_weights_and_trains_all_experts(model_type: str) -> None:
    base, model = PAGE.small(model_type), PAGE.small(model_type)
    pool = PAGE.with_experts(model, rows()[model_type])
    generator = torch.Generator().manual_seed(5)
    state = {n: torch.randn(t.shape, generator=generator) for n, t in pool.state_dict().items()}
    pool.load_state_dict({name: 0.02 * tensor for name, tensor in state.items()})
    gates = torch.randn(2, pool.num_sites, K, generator=generator)
    ids = torch.randint(40, 96, (2, 6), generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    with pool.gated(gates):
        got = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        some = logits_at(model, ids, mask, torch.tensor([1, 3]))
    torch.testing.assert_close(some, got[:, [1, 3]])
    loss = got[0].square().sum() + got[1, :4].square().sum()
    for name, grad in zip(
        pool.module_names, torch.autograd.grad(loss, pool.parameters())[1::2], strict=True
    ):
        assert grad.view(-1, K, RANK).abs().amax(dim=(0, 2)).min() > 0, name
    with torch.no_grad():
        for i, length in enumerate((6, 4)):
            one = {"input_ids": ids[i : i + 1, :length], "use_cache": False}
            plain = base(**one).logits[0]
            expected = functional_call(base, merged(base, pool, gates[i]), (), one).logits[0]
            effect = (expected - plain).norm()
            assert effect > 1e-3 * plain.norm()
            assert (got[i, :length] - expected).norm() < 2e-3 * effect

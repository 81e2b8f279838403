"""What is refused at once: layers that are passed by, tokens out of order, padding that matters."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    JambaConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    OPTConfig,
    PreTrainedModel,
    RwkvConfig,
)

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.support.check import check_experts, check_skeleton
from polyprag.method.support.coverage import coverage
from polyprag.method.support.trial import UnsupportedModelError

SIZES: dict[str, Any] = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.1,
)


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def made(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return model


def with_experts(model: PreTrainedModel, *targets: str) -> ExpertPool:
    return inject(model, ExpertsConfig(num=3, targets=list(targets)), RouterConfig(), seed=0)


def mamba() -> MambaForCausalLM:
    torch.manual_seed(0)
    return MambaForCausalLM(MambaConfig(**SIZES, state_size=4)).eval()


class ReadsWeight(nn.Module):
    """An MLP that multiplies by a Linear's weight itself, as hand-written kernels do."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.up_proj, self.down_proj = mlp.up_proj, mlp.down_proj

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.gelu(x @ self.up_proj.weight.t()))
        return out


class CallsAndReadsWeight(ReadsWeight):
    """An MLP that runs its Linear, and uses its weight once more."""

    def forward(self, x: Tensor) -> Tensor:
        both = self.up_proj(x) + torch.cat([self.up_proj.weight, self.up_proj.weight])[:48] @ x.mT
        out: Tensor = self.down_proj(F.gelu(both))
        return out


class AsksForDtype(ReadsWeight):
    """An MLP that asks a Linear for what isn't its numbers: nothing is wrong with it."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.up_proj.weight
        assert weight.shape == (self.up_proj.out_features, self.up_proj.in_features)
        out: Tensor = self.down_proj(F.gelu(self.up_proj(x.to(weight.dtype).to(weight.device))))
        return out


class SendsTokens(ReadsWeight):
    """An MLP for every second token of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        chosen = torch.arange(0, len(flat), 2)
        out = self.down_proj(F.gelu(self.up_proj(flat[chosen])))
        return torch.zeros_like(flat).index_copy(0, chosen, out).view(x.shape)


class Reorders(ReadsWeight):
    """An MLP on flattened tokens in another order: the shapes are right."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(
            F.gelu(self.up_proj(x.mT.transpose(1, 2).flatten(0, 1).flip(0)))
        )
        return out.flip(0).view(x.shape)


class Ignores(ReadsWeight):
    """An MLP that runs a Linear and does nothing with it."""

    def forward(self, x: Tensor) -> Tensor:
        self.up_proj(x)
        return x


class Forgets(ReadsWeight):
    """An MLP with a Linear that text doesn't come by."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.down_proj.out_features


REFUSED = [
    (ReadsWeight, "computes with the weight of model.layers.1.mlp.up_proj itself"),
    (SendsTokens, "chooses among a batch's tokens or reorders them before model.layers.1.mlp.up_"),
    (Reorders, "in a batch a sequence comes out otherwise than alone"),
    (Ignores, "output of model.layers.1.mlp.up_proj doesn't reach the model's own"),
    (Forgets, "doesn't run model.layers.1.mlp.up_proj on text"),
]


@pytest.mark.parametrize(("kind", "why"), REFUSED)
def test_a_layer_that_would_go_wrong_silently_is_refused(kind: Any, why: str) -> None:
    model = llama()
    model.model.layers[1].mlp = kind(model.model.layers[1].mlp)
    pool = with_experts(model, "up_proj")
    with pytest.raises(UnsupportedModelError, match=f"can't carry experts on up_proj.*{why}"):
        check_experts(model, pool)


def test_what_is_not_the_numbers_of_a_weight_may_be_read() -> None:
    model = llama()
    model.model.layers[1].mlp = AsksForDtype(model.model.layers[1].mlp)
    check_experts(model, with_experts(model, "up_proj", "down_proj"))


def test_a_trial_leaves_everything_as_it_was() -> None:
    model = llama()
    pool = with_experts(model, "up_proj", "q_proj")
    before, hooks = pool.state_dict(), copy.copy(model.model.layers[0].mlp.up_proj._forward_hooks)
    random = torch.get_rng_state()
    check_experts(model, pool)
    after = pool.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.model.layers[0].mlp.up_proj._forward_hooks == hooks
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("config", "targets"),
    [
        (OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32), ("fc1", "fc2")),
        (MambaConfig(**SIZES, state_size=4), ("in_proj", "x_proj", "out_proj")),
        (MixtralConfig(**SIZES, num_local_experts=4), ("q_proj", "o_proj")),
    ],
)
def test_models_that_flatten_or_ask_for_sizes_are_accepted(config: Any, targets: Any) -> None:
    model = made(config)
    check_experts(model, with_experts(model, *targets))


def test_mamba_is_told_which_of_its_linears_is_passed_by() -> None:
    model = mamba()
    pool = with_experts(model, "in_proj", "dt_proj")
    with pytest.raises(UnsupportedModelError, match=r"computes with the weight of .*dt_proj"):
        check_experts(model, pool)


def test_a_model_that_ignores_padding_is_refused() -> None:
    model = made(RwkvConfig(**SIZES, attention_hidden_size=32))
    pool = with_experts(model, "key")
    with pytest.raises(UnsupportedModelError, match="prompts of different lengths"):
        check_experts(model, pool)


def test_a_bf16_model_is_accepted() -> None:
    model = llama().to(torch.bfloat16)
    check_experts(model, with_experts(model, "up_proj", "down_proj"))


@pytest.mark.parametrize("target", ["dt_proj", "in_proj"])
def test_without_weights_what_shapes_show_is_refused_already(target: str) -> None:
    with torch.device("meta"):
        model = MambaForCausalLM(MambaConfig(**SIZES, state_size=4)).eval()
        pool = with_experts(model, target)
    if target == "in_proj":
        check_skeleton(model, pool)
        return
    with pytest.raises(UnsupportedModelError, match=r"computes with the weight of .*dt_proj"):
        check_skeleton(model, pool)


def test_coverage_counts_what_experts_sit_beside() -> None:
    model = llama()
    in_layers = sum(p.numel() for p in model.model.layers.parameters())
    found = coverage(model, with_experts(model, "up_proj", "down_proj"))
    assert (found.with_experts, found.in_layers) == (2 * 2 * 32 * 48, in_layers)
    assert found.warning() is None and found.fused == ()


def test_fused_routed_experts_are_warned_of_with_their_share() -> None:
    model = made(MixtralConfig(**SIZES, num_local_experts=4))
    in_layers = sum(p.numel() for p in model.model.layers.parameters())
    found = coverage(model, with_experts(model, "q_proj"))
    assert (found.with_experts, found.in_layers) == (2 * 32 * 32, in_layers)
    # Of every layer: gate and up as one tensor of each expert, and down.
    assert found.fused_parameters == 2 * 4 * (2 * 48 * 32 + 48 * 32)
    share = found.fused_parameters / in_layers
    warning = found.warning()
    assert warning is not None
    assert f"mlp.experts.gate_up_proj, mlp.experts.down_proj: {share:.0%}" in warning


def test_experts_of_a_dense_part_and_of_a_hybrid_are_told_apart() -> None:
    config = JambaConfig(
        **SIZES,
        num_experts=4,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=4,
        mamba_dt_rank=4,
    )
    model = made(config)
    found = coverage(model, with_experts(model, "gate_proj", "up_proj", "down_proj"))
    assert found.with_experts == 3 * 32 * 48  # the first layer's MLP; the second layer routes
    assert found.fused

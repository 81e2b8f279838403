"""Gates belong to a forward pass: threads, recomputation, ended blocks, flattened activations."""

import contextvars
import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.experts import ExpertPool, inject

K, RANK, ALPHA = 4, 2, 6.0


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,  # large, so that differences show
    )
    return LlamaForCausalLM(config).eval()


def tiny_opt() -> OPTForCausalLM:
    """It runs fc1 and fc2 on (B * T, d)."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=61,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=32,
        init_std=0.2,
        max_position_embeddings=32,
    )
    return OPTForCausalLM(config).eval()


def tiny_qwen_moe() -> Qwen2MoeForCausalLM:
    """It runs its shared experts on (B * T, d)."""
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=24,
        num_experts=4,
        num_experts_per_tok=2,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        initializer_range=0.2,
    )
    return Qwen2MoeForCausalLM(config).eval()


def with_experts(base: nn.Module, targets: list[str]) -> tuple[nn.Module, ExpertPool]:
    """A copy of a model with experts that do something."""
    model = copy.deepcopy(base)
    experts = ExpertsConfig(num=K, rank=RANK, alpha=ALPHA, targets=targets)
    pool = inject(model, experts, RouterConfig(), seed=0)
    generator = torch.Generator().manual_seed(1)
    state = {n: torch.randn(t.shape, generator=generator) for n, t in pool.state_dict().items()}
    pool.load_state_dict({name: 0.2 * tensor for name, tensor in state.items()})
    return model, pool


def merged(base: nn.Module, pool: ExpertPool, gates_SK: Tensor) -> dict[str, Tensor]:
    """W + s * sum_k gates_k B_k A_k for every Linear with experts, each its own site."""
    weights, state = {}, pool.state_dict()
    for site, name in enumerate(pool.module_names):
        A, B = state[f"{name}.A"], state[f"{name}.B"]
        parts = [slice(k * RANK, (k + 1) * RANK) for k in range(K)]
        delta = sum(gates_SK[site, k] * B[:, part] @ A[part] for k, part in enumerate(parts))
        weights[f"{name}.weight"] = base.get_submodule(name).weight + ALPHA / RANK * delta
    return weights


def random_gates(pool: ExpertPool, num: int) -> Tensor:
    return torch.randn(num, pool.num_sites, K, generator=torch.Generator().manual_seed(3))


def tokens(num: int, length: int) -> Tensor:
    return torch.randint(3, 61, (num, length), generator=torch.Generator().manual_seed(2))


def meeting(model: nn.Module, parties: int) -> None:
    """Has as many threads wait for each other inside the model before any goes on."""
    barrier = threading.Barrier(parties)

    def wait(*_: object) -> None:
        barrier.wait(timeout=60)

    model.get_submodule("model.layers.0").register_forward_pre_hook(wait)


def in_threads(*calls: Callable[[], Tensor]) -> list[Tensor]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def test_threads_with_one_model_use_their_own_gates() -> None:
    base = tiny_llama()
    model, pool = with_experts(base, ["up_proj", "down_proj"])
    gates, ids = random_gates(pool, 2), tokens(1, 7)

    def run(i: int) -> Tensor:
        with torch.no_grad(), pool.gated(gates[i : i + 1]):
            return model(ids).logits

    def closed_book() -> Tensor:
        with torch.no_grad():
            return model(ids).logits

    with torch.no_grad():
        expected = [
            functional_call(base, merged(base, pool, gates[i]), (ids,)).logits for i in range(2)
        ]
        expected.append(base(ids).logits)
    meeting(model, parties=3)
    got = in_threads(lambda: run(0), lambda: run(1), closed_book)
    for mine, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-4, rtol=1e-4)


def test_gates_of_a_block_that_has_ended_are_refused() -> None:
    model, pool = with_experts(tiny_llama(), ["up_proj"])
    ids = tokens(1, 4)
    with pool.gated(random_gates(pool, 1)):
        kept = contextvars.copy_context()  # as a task or a thread that starts here has it
        assert torch.equal(kept.run(model, ids).logits, model(ids).logits)
    with pytest.raises(RuntimeError, match="block that has ended"):
        kept.run(model, ids)


def checkpointed(*, how: str) -> list[Tensor]:
    """Gradients of gates and experts, the backward pass in a thread that holds other gates."""
    model, pool = with_experts(tiny_llama(), ["up_proj", "down_proj"])
    if how != "plain":
        settings = {"context_fn": pool.recomputing} if how == "with gates" else {}
        model.activation_checkpointing_enable({"use_reentrant": False, **settings})
    gates, ids = random_gates(pool, 2).requires_grad_(), tokens(2, 5)
    with pool.gated(gates):
        loss = model.train()(ids, use_cache=False).logits.square().sum() / 500

    def backward() -> None:
        with pool.gated(torch.ones_like(gates)):
            loss.backward()

    thread = ThreadPoolExecutor(1)
    with thread:
        thread.submit(backward).result()
    return [gates.grad, *(parameter.grad for parameter in pool.parameters())]


def test_recomputed_layers_use_the_gates_of_their_forward_pass() -> None:
    for plain, again in zip(checkpointed(how="plain"), checkpointed(how="with gates"), strict=True):
        assert plain.abs().max() > 1e-3
        torch.testing.assert_close(again, plain, atol=1e-6, rtol=1e-6)


def test_recomputed_layers_without_them_are_refused() -> None:
    with pytest.raises(RuntimeError, match="context_fn=ExpertPool"):
        checkpointed(how="without")


def test_a_closed_book_pass_can_be_recomputed_too() -> None:
    base = tiny_llama()
    model, pool = with_experts(base, ["up_proj"])
    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": pool.recomputing})
    grads = []
    for each in (base, model.train()):
        embedded = each.get_input_embeddings()(tokens(1, 5)).detach().requires_grad_()
        each(inputs_embeds=embedded, use_cache=False).logits.square().sum().backward()
        grads.append(embedded.grad)
    torch.testing.assert_close(grads[1], grads[0])


FLAT = [(tiny_opt, ["fc1", "fc2"]), (tiny_qwen_moe, ["gate_proj", "up_proj", "down_proj"])]


@pytest.mark.parametrize(("make", "targets"), FLAT)
def test_flattened_activations_meet_the_gates_of_their_sequence(
    make: Callable[[], PreTrainedModel], targets: list[str]
) -> None:
    base = make()
    model, pool = with_experts(base, targets)
    gates, ids = random_gates(pool, 3).requires_grad_(), tokens(3, 5)
    with pool.gated(gates):
        got = model(ids, use_cache=False).logits
    expected = torch.cat(
        [functional_call(base, merged(base, pool, g), (one[None],)).logits
         for g, one in zip(gates, ids, strict=True)]
    )  # fmt: skip
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    grads = [torch.autograd.grad(each.square().sum(), gates)[0] for each in (got, expected)]
    torch.testing.assert_close(*grads, atol=1e-2, rtol=1e-3)


def test_flattened_packed_rows_meet_the_gates_of_their_tokens() -> None:
    base = tiny_qwen_moe()
    model, pool = with_experts(base, ["gate_proj", "up_proj", "down_proj"])
    gates, ids = random_gates(pool, 2), tokens(1, 8)
    rows = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0]])
    with torch.no_grad(), pool.gated(gates, token_rows=rows):
        got = model(
            ids, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]]), use_cache=False
        ).logits
    for i, part in ((1, slice(0, 3)), (0, slice(3, 8))):
        weights = merged(base, pool, gates[i])
        with torch.no_grad():
            expected = functional_call(base, weights, (ids[:, part],)).logits
        torch.testing.assert_close(got[:, part], expected, atol=1e-4, rtol=1e-4)


class Choosing(nn.Module):
    """A layer that runs its Linear on some of the tokens only, as routed experts do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"up_proj": nn.Linear(8, 8)})])

    def forward(self, inputs_embeds: Tensor, chosen: Tensor) -> Tensor:
        return self.layers[0]["up_proj"](inputs_embeds.flatten(0, 1)[chosen])


def test_tokens_that_were_chosen_from_the_batch_are_refused() -> None:
    model, pool = with_experts(Choosing(), ["up_proj"])
    x = torch.randn(2, 3, 8)
    with pool.gated(random_gates(pool, 2)), pytest.raises(ValueError, match="choose among"):
        model(inputs_embeds=x, chosen=torch.tensor([0, 1, 3, 5]))
    rows = torch.zeros(2, 3, dtype=torch.int64)
    with pool.gated(random_gates(pool, 1), rows), pytest.raises(ValueError, match="choose among"):
        model(inputs_embeds=x, chosen=torch.tensor([0, 1, 3, 5]))


def test_a_wrapped_linear_has_what_a_linear_has() -> None:
    base = tiny_opt()
    model, _ = with_experts(base, ["fc1"])
    plain, wrapped = (m.get_submodule("model.decoder.layers.0.fc1") for m in (base, model))
    for name in ("in_features", "out_features"):
        assert getattr(wrapped, name) == getattr(plain, name)
    assert torch.equal(wrapped.weight, plain.weight) and torch.equal(wrapped.bias, plain.bias)

"""The wide gated layer against per-example merged weights, and against PEFT's Poly."""

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import LlamaConfig, LlamaForCausalLM

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.errors import ConfigError, RunError
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.router import gates as gates_of_rows

NUM_LAYERS, K, RANK, ALPHA = 2, 4, 2, 6.0
TARGETS = ["gate_proj", "up_proj", "down_proj"]


def tiny_llama(**changes: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = dict(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,  # large, so that differences show
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(LlamaConfig(**(sizes | changes))).eval()


def tiny_pool(
    router: RouterConfig, *, targets: list[str] | None = None, seed: int = 0
) -> tuple[LlamaForCausalLM, LlamaForCausalLM, ExpertPool]:
    """A base model, the same model with experts whose B isn't zero, and its pool."""
    base = tiny_llama()
    model = copy.deepcopy(base)
    experts = ExpertsConfig(num=K, rank=RANK, alpha=ALPHA, targets=targets or TARGETS)
    pool = inject(model, experts, router, seed=seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in pool.named_parameters():
            if name.endswith(".B"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return base, model, pool


def reference_gates(row: Tensor, router: RouterConfig) -> Tensor:
    """Gates of one (K,) row by the formulas as written in DESIGN.md, one entry at a time."""
    k = len(row)
    if router.gate in ("linear", "tanh"):
        entries = [(torch.tanh(a) if router.gate == "tanh" else a) / k**0.5 for a in row]
        size = [entry.abs().item() for entry in entries]
    else:
        entries = [
            torch.exp(a) if router.gate == "softmax" else 1 / (1 + torch.exp(-a)) for a in row
        ]
        size = [entry.item() for entry in entries]
    kept = sorted(range(k), key=lambda i: -size[i])[: router.top_k or k]
    entries = [entry if i in kept else torch.zeros(()) for i, entry in enumerate(entries)]
    total = sum(entries) if router.gate in ("softmax", "sigmoid") else 1.0
    return torch.stack([entry / total for entry in entries])


def merged_weights(
    base: LlamaForCausalLM, state: dict[str, Tensor], row_SK: Tensor, router: RouterConfig
) -> dict[str, Tensor]:
    """W + s * sum_k gates_k B_k A_k for every targeted Linear, differentiable."""
    weights = {}
    for linear, name in enumerate(n.removesuffix(".A") for n in state if n.endswith(".A")):
        layer = int(name.split(".")[2])
        site = {"model": 0, "layer": layer, "module": linear}[router.granularity]
        gate = reference_gates(row_SK[site], router)
        A, B = state[f"{name}.A"], state[f"{name}.B"]
        delta = sum(
            gate[k] * B[:, k * RANK : (k + 1) * RANK] @ A[k * RANK : (k + 1) * RANK]
            for k in range(K)
        )
        weights[f"{name}.weight"] = base.get_submodule(name).weight + ALPHA / RANK * delta
    return weights


def sequences() -> tuple[list[Tensor], list[int]]:
    """Five sequences of different lengths, and which of three passages each belongs to."""
    generator = torch.Generator().manual_seed(2)
    lengths = [7, 3, 9, 5, 9]
    return [torch.randint(1, 61, (n,), generator=generator) for n in lengths], [0, 1, 2, 0, 1]


def random_rows(pool: ExpertPool) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3, pool.num_sites, K, generator=generator).requires_grad_()


def sum_of_squares(logits: Tensor) -> Tensor:
    """A loss that isn't linear in the logits, of moderate size."""
    return (logits**2).sum() / 500


def reference_run(
    base: LlamaForCausalLM, pool: ExpertPool, rows: Tensor, router: RouterConfig
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Each sequence alone through its own merged weights: logits, and gradients by name."""
    state = {name: tensor.requires_grad_() for name, tensor in pool.state_dict().items()}
    logits = [
        functional_call(base, merged_weights(base, state, rows[who], router), (ids[None],)).logits[
            0
        ]
        for ids, who in zip(*sequences(), strict=True)
    ]
    loss = sum(sum_of_squares(part) for part in logits)
    wanted = {"rows": rows, **state}
    grads = torch.autograd.grad(loss, list(wanted.values()))
    return logits, dict(zip(wanted, grads, strict=True))


ROUTERS = [
    RouterConfig(granularity=granularity, gate=gate, top_k=top_k)
    for granularity in ("model", "layer", "module")
    for gate in ("linear", "tanh", "softmax", "sigmoid")
    for top_k in (0, 2)
]


def check_against_reference(
    router: RouterConfig, *, packed: bool, targets: list[str] | None = None
) -> None:
    base, model, pool = tiny_pool(router, targets=targets)
    rows = random_rows(pool)
    expected, expected_grads = reference_run(base, pool, rows, router)
    ids, who = sequences()
    if packed:
        lengths = [len(part) for part in ids]
        with pool.gated(
            gates_of_rows(rows, router),
            token_rows=torch.tensor(who).repeat_interleave(torch.tensor(lengths))[None],
        ):
            output = model(
                torch.cat(ids)[None],
                position_ids=torch.cat([torch.arange(n) for n in lengths])[None],
                use_cache=False,
            )
        got = list(output.logits[0].split(lengths))
    else:
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        with pool.gated(gates_of_rows(rows[who], router)):
            output = model(padded, attention_mask=(padded > 0).long())
        got = [logits[: len(part)] for logits, part in zip(output.logits, ids, strict=True)]

    for mine, reference in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-5)
    sum(sum_of_squares(part) for part in got).backward()
    grads = {"rows": rows.grad} | {name: p.grad for name, p in pool.named_parameters()}
    assert grads.keys() == expected_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], atol=1e-5, rtol=1e-5, msg=name)
        assert grad.abs().max() > 1e-3, f"{name} has no gradient to speak of"


@pytest.mark.parametrize("router", ROUTERS, ids=lambda r: f"{r.granularity}-{r.gate}-{r.top_k}")
def test_mixed_batch_equals_merged_weights_with_gradients(router: RouterConfig) -> None:
    check_against_reference(router, packed=False)


@pytest.mark.parametrize("granularity", ["model", "layer", "module"])
@pytest.mark.parametrize("gate", ["linear", "sigmoid"])
def test_packed_sequence_equals_merged_weights_with_gradients(granularity: str, gate: str) -> None:
    check_against_reference(RouterConfig(granularity=granularity, gate=gate, top_k=2), packed=True)


def test_attention_projections_can_carry_experts_too() -> None:
    check_against_reference(
        RouterConfig(granularity="module"), packed=False, targets=["q_proj", "v_proj", "down_proj"]
    )


def test_without_gates_and_at_the_start_the_model_is_its_base() -> None:
    base, trained, _ = tiny_pool(RouterConfig())
    ids = sequences()[0][0][None]
    torch.testing.assert_close(trained(ids).logits, base(ids).logits, atol=0, rtol=0)

    fresh = tiny_llama()
    pool = inject(fresh, ExpertsConfig(num=K, rank=RANK), RouterConfig(), seed=0)
    with pool.gated(random_rows(pool)[:1]):
        torch.testing.assert_close(fresh(ids).logits, base(ids).logits, atol=0, rtol=0)


def test_generation_with_kv_cache_equals_generation_from_merged_weights() -> None:
    router = RouterConfig()
    base, model, pool = tiny_pool(router)
    rows = random_rows(pool).detach()
    ids = torch.stack([sequences()[0][2], sequences()[0][4]])
    options = dict(max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(ids))
    with pool.gated(gates_of_rows(rows[:2], router)):
        got = model.generate(ids, **options)
    assert not torch.equal(got, base.generate(ids, **options))
    for i in range(2):
        merged = copy.deepcopy(base)
        weights = merged_weights(base, pool.state_dict(), rows[i], router)
        merged.load_state_dict(weights, strict=False)
        one = options | {"attention_mask": torch.ones_like(ids[i : i + 1])}
        assert torch.equal(merged.generate(ids[i : i + 1], **one)[0], got[i])


@pytest.mark.parametrize("granularity", ["model", "layer", "module"])
def test_gradients_are_the_same_with_activation_checkpointing(granularity: str) -> None:
    ids, who = sequences()
    lengths = [len(part) for part in ids]
    tokens = torch.tensor(who).repeat_interleave(torch.tensor(lengths))[None]
    grads = []
    for checkpointing in (False, True):
        _, model, pool = tiny_pool(RouterConfig(granularity=granularity))
        if checkpointing:
            model.activation_checkpointing_enable(
                {"use_reentrant": False, "context_fn": pool.recomputing}
            )
        rows = random_rows(pool)
        with pool.gated(gates_of_rows(rows, RouterConfig()), token_rows=tokens):
            logits = model.train()(torch.cat(ids)[None], use_cache=False).logits
            sum_of_squares(logits).backward()
        grads.append([rows.grad, *(parameter.grad for parameter in pool.parameters())])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(recomputed, plain, atol=1e-6, rtol=1e-6)


def test_gates_of_an_inner_block_end_with_it() -> None:
    _, model, pool = tiny_pool(RouterConfig())
    first, second = random_rows(pool).detach()[:2].split(1)
    ids = sequences()[0][0][None]
    with pool.gated(first):
        before = model(ids).logits
        with pool.gated(second):
            assert not torch.allclose(model(ids).logits, before)
        assert torch.equal(model(ids).logits, before)


def test_gates_for_another_batch_size_are_refused() -> None:
    _, model, pool = tiny_pool(RouterConfig())
    ids = sequences()[0][0][None].expand(2, -1)
    with pool.gated(random_rows(pool)), pytest.raises(ValueError, match="gates for 3 sequences"):
        model(ids)
    with pytest.raises(ValueError, match="needs"), pool.gated(torch.zeros(2, 1, K + 1)):
        pass


def test_bf16_activations_with_fp32_experts_give_fp32_gradients() -> None:
    base = tiny_llama()
    router = RouterConfig()
    _, exact_model, exact_pool = tiny_pool(router)
    model = base.to(torch.bfloat16)
    pool = inject(model, ExpertsConfig(num=K, rank=RANK, alpha=ALPHA), router, seed=0)
    pool.load_state_dict(exact_pool.state_dict())
    rows = random_rows(pool)
    ids = sequences()[0][2][None]
    with pool.gated(gates_of_rows(rows[:1], router)), exact_pool.gated(rows[:1].detach() / 2):
        output, exact = model(ids).logits, exact_model(ids).logits
    assert output.dtype == torch.bfloat16
    assert (output.float() - exact).norm() / exact.norm() < 0.05
    output.float().sum().backward()
    assert rows.grad is not None and rows.grad.dtype == torch.float32
    for parameter in pool.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inference_computes_what_training_does(dtype: torch.dtype) -> None:
    _, _, filled = tiny_pool(RouterConfig())
    model = tiny_llama().to(dtype)
    pool = inject(model, ExpertsConfig(num=K, rank=RANK, alpha=ALPHA), RouterConfig(), seed=0)
    pool.load_state_dict(filled.state_dict())
    ids = torch.randint(0, 60, (3, 7), generator=torch.Generator().manual_seed(0))
    gates = torch.randn(3, pool.num_sites, pool.num_experts)
    with torch.no_grad(), pool.gated(gates):
        expected = model(ids).logits
    pool.cast_to_base()
    wide = pool.widened(gates)
    with torch.inference_mode():
        for _ in range(2):  # the gates are made once
            with pool.gated(wide):
                got = model(ids).logits
        with pool.gated(gates):
            assert torch.equal(model(ids).logits, got)
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)
    with pytest.raises(ValueError, match="this pool needs"):
        pool.widened(gates[:, :1])


def test_initial_experts_follow_from_the_seed_alone() -> None:
    def state(seed: int) -> dict[str, Tensor]:
        model = tiny_llama()
        torch.manual_seed(seed + 100)
        before = torch.get_rng_state()
        pool = inject(model, ExpertsConfig(num=K, rank=RANK), RouterConfig(), seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        return pool.state_dict()

    first, again, other = state(7), state(7), state(8)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
        if name.endswith(".A"):
            assert not torch.equal(tensor, other[name])
            d_in = tensor.shape[1]  # LoRA's Kaiming bound, whatever the number of experts
            assert 0.9 / d_in**0.5 < tensor.abs().max() <= 1 / d_in**0.5
        else:
            assert not tensor.any()


def test_only_experts_train_and_names_and_shapes_are_fixed() -> None:
    _, model, pool = tiny_pool(RouterConfig())
    trainable = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(trainable) == sorted(id(p) for p in pool.parameters())
    assert pool.module_names[:4] == (
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.mlp.gate_proj",
    )
    assert pool.shapes() == {n: tuple(p.shape) for n, p in pool.named_parameters()}
    assert pool.shapes()["model.layers.0.mlp.down_proj.A"] == (K * RANK, 48)
    assert (pool.num_sites, pool.num_experts, pool.rank) == (6, K, RANK)


def test_state_survives_a_round_trip() -> None:
    _, model, pool = tiny_pool(RouterConfig())
    _, other, other_pool = tiny_pool(RouterConfig(), seed=5)
    other_pool.load_state_dict(pool.state_dict())
    gates = random_rows(pool).detach()[:1]
    ids = sequences()[0][0][None]
    with pool.gated(gates), other_pool.gated(gates):
        assert torch.equal(model(ids).logits, other(ids).logits)


def test_state_that_does_not_fit_is_refused_and_nothing_is_copied() -> None:
    _, _, pool = tiny_pool(RouterConfig())
    good = pool.state_dict()
    name = "model.layers.0.mlp.up_proj.B"
    with pytest.raises(RunError, match=f"lack 1 tensors.*{name}"):
        pool.load_state_dict({k: v for k, v in good.items() if k != name})
    with pytest.raises(RunError, match="no place for"):
        pool.load_state_dict(good | {"model.layers.9.mlp.up_proj.B": good[name]})
    with pytest.raises(RunError, match=f"{name}.*shape"):
        pool.load_state_dict({k: v + 1 for k, v in good.items()} | {name: torch.zeros(2, 2)})
    assert all(torch.equal(good[k], v) for k, v in pool.state_dict().items())


def test_targets_that_the_model_lacks_are_named_with_those_it_has() -> None:
    with pytest.raises(ConfigError, match=r"experts\.targets.*fc1.*down_proj, gate_proj"):
        inject(tiny_llama(), ExpertsConfig(targets=["fc1"]), RouterConfig(), seed=0)
    with pytest.raises(ConfigError, match="lm_head"):
        inject(tiny_llama(), ExpertsConfig(targets=["up_proj", "lm_head"]), RouterConfig(), seed=0)


def test_a_second_pool_is_refused() -> None:
    _, model, _ = tiny_pool(RouterConfig())
    with pytest.raises(ConfigError, match="already"):
        inject(model, ExpertsConfig(), RouterConfig(), seed=0)


@pytest.fixture
def peft_poly() -> Iterator[tuple[torch.nn.Module, LlamaForCausalLM, ExpertPool, Tensor]]:
    """PEFT's Poly and our pool with the same weights, for three tasks.

    PEFT lays A out as (split, skill, d_in, r) and B as (split, skill, r, d_out), scales by 1 / r,
    and routes by sigmoid over its sum, one row per task and Linear. It mixes A and B apart, so its
    update is (sum w B)(sum w A): equal to ours, sum w B A, only where one of them is shared.
    """
    peft = pytest.importorskip("peft")
    poly_config = peft.PolyConfig(
        task_type="CAUSAL_LM",
        target_modules=TARGETS,
        r=RANK,
        n_tasks=3,
        n_skills=K,
        n_splits=1,
        poly_type="poly",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        poly = peft.get_peft_model(tiny_llama(), poly_config).eval()
    model = tiny_llama()
    router = RouterConfig(granularity="module", gate="sigmoid")
    pool = inject(model, ExpertsConfig(num=K, rank=RANK, alpha=1.0), router, seed=0)
    rows = torch.randn(3, pool.num_sites, K, generator=torch.Generator().manual_seed(4))
    yield poly, model, pool, rows


def copy_to_peft(poly: torch.nn.Module, pool: ExpertPool, rows: Tensor) -> None:
    state = pool.state_dict()
    with torch.no_grad():
        for site, name in enumerate(pool.module_names):
            layer = poly.base_model.model.get_submodule(name)
            A = state[f"{name}.A"].view(K, RANK, -1)
            B = state[f"{name}.B"].view(-1, K, RANK)
            layer.poly_lora_A["default"].copy_(A.transpose(1, 2)[None])
            layer.poly_lora_B["default"].copy_(B.permute(1, 2, 0)[None])
            layer.poly_router["default"].module_logits.copy_(rows[:, site])


@pytest.mark.parametrize("shared", ["A", "B", "one expert"])
def test_equals_peft_poly_where_mixing_apart_makes_no_difference(
    peft_poly: tuple[torch.nn.Module, LlamaForCausalLM, ExpertPool, Tensor], shared: str
) -> None:
    poly, model, pool, rows = peft_poly
    generator = torch.Generator().manual_seed(6)
    state = {
        name: torch.randn(shape, generator=generator) * 0.5 for name, shape in pool.shapes().items()
    }
    for name, tensor in state.items():
        if shared == "A" and name.endswith(".A"):
            tensor.view(K, RANK, -1)[:] = tensor.view(K, RANK, -1)[:1].clone()
        if shared == "B" and name.endswith(".B"):
            tensor.view(-1, K, RANK)[:] = tensor.view(-1, K, RANK)[:, :1].clone()
    pool.load_state_dict(state)
    if shared == "one expert":
        rows = torch.full_like(rows, -40.0).scatter(-1, rows.argmax(-1, keepdim=True), 40.0)
    copy_to_peft(poly, pool, rows)

    tasks = torch.tensor([2, 0, 1, 0])
    ids = torch.randint(1, 61, (4, 8), generator=generator)
    router = RouterConfig(granularity="module", gate="sigmoid")
    expected = poly(input_ids=ids, task_ids=tasks).logits
    with pool.gated(gates_of_rows(rows[tasks], router)):
        got = model(ids).logits
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert (got - model(ids).logits).abs().max() > 0.1, "the experts make a difference"


def test_router_equals_peft_poly_router(
    peft_poly: tuple[torch.nn.Module, LlamaForCausalLM, ExpertPool, Tensor],
) -> None:
    poly, _, pool, rows = peft_poly
    copy_to_peft(poly, pool, rows)
    mine = gates_of_rows(rows, RouterConfig(gate="sigmoid"))
    for site, name in enumerate(pool.module_names):
        router = poly.base_model.model.get_submodule(name).poly_router["default"]
        theirs = router(task_ids=torch.arange(3), input_ids=torch.zeros(1))
        torch.testing.assert_close(mine[:, site], theirs[:, 0], atol=1e-7, rtol=1e-6)

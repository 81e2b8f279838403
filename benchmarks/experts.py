"""What a training step costs with K gated experts, beside one LoRA and PEFT's Poly layer.

    python benchmarks/experts.py [--quick] [--json FILE]

One Llama, one batch in which every sequence belongs to another passage; forward, backward and
Adam on the adapters, in turns, the median of each. PEFT's LoRA has one adapter for the whole batch,
which is less than is needed here and marks the floor; its Poly layer mixes per sequence, with cross
terms.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, PolyConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from harness.reporting import Goal, finish, options, show
from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.experts import inject
from polyprag.method.router import gates

BATCH = 16
TARGETS = ["gate_proj", "up_proj", "down_proj"]


def llama(*, quick: bool) -> LlamaForCausalLM:
    """A random Llama: 30 M parameters, 3 M with --quick."""
    torch.manual_seed(0)
    width, layers = (192, 4) if quick else (512, 8)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def steps(*, quick: bool, num_experts: int) -> dict[str, Callable[[Tensor], None]]:
    """A training step of each kind."""
    made: dict[str, Callable[[Tensor], None]] = {}

    def add(name: str, model: Any, weights: list[Any], **inputs: Any) -> None:
        optimizer = torch.optim.AdamW(weights, lr=1e-4)

        def step(ids: Tensor) -> None:
            model(input_ids=ids, labels=ids, use_cache=False, **inputs).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        made[name] = step

    lora = get_peft_model(
        llama(quick=quick), LoraConfig(r=2, lora_alpha=32, target_modules=TARGETS)
    )
    add("PEFT LoRA, rank 2, one for all", lora, [p for p in lora.parameters() if p.requires_grad])

    poly = get_peft_model(
        llama(quick=quick),
        PolyConfig(
            r=2,
            n_tasks=64,
            n_skills=num_experts,
            n_splits=1,
            target_modules=TARGETS,
            task_type="CAUSAL_LM",
        ),
    )
    add(
        f"PEFT Poly, {num_experts} skills",
        poly,
        [p for p in poly.parameters() if p.requires_grad],
        task_ids=torch.arange(BATCH),
    )

    base = llama(quick=quick)
    router = RouterConfig()
    pool = inject(base, ExpertsConfig(num=num_experts, rank=2), router, seed=0)
    rows = torch.randn(BATCH, pool.num_sites, num_experts, requires_grad=True)
    optimizer = torch.optim.AdamW([*pool.parameters(), rows], lr=1e-4)

    def gated(ids: Tensor) -> None:
        with pool.gated(gates(rows, router)):
            base(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    made[f"polyprag, {num_experts} experts"] = gated
    return made


def main() -> None:
    """Runs the benchmark."""
    args = options(__doc__.splitlines()[0]).parse_args()
    length, rounds = (64, 5) if args.quick else (128, 15)
    ids = torch.randint(0, 4096, (BATCH, length), generator=torch.Generator().manual_seed(0))
    results: dict[str, dict[str, float]] = {}
    for num_experts in (16, 64):
        seconds: dict[str, list[float]] = {}
        made = steps(quick=args.quick, num_experts=num_experts)
        for turn in range(rounds + 2):
            for name, step in made.items():
                started = time.perf_counter()
                step(ids)
                if turn >= 2:  # the first two warm up
                    seconds.setdefault(name, []).append(time.perf_counter() - started)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        floor = medians["PEFT LoRA, rank 2, one for all"]
        results[str(num_experts)] = {name: median / floor for name, median in medians.items()}
        show(
            f"{num_experts} experts of rank 2, {BATCH} sequences of {length} tokens",
            ("step", "seconds", "x LoRA"),
            [(name, median, median / floor) for name, median in medians.items()],
        )
    ratio = results["16"]["polyprag, 16 experts"]
    against = ratio / results["16"]["PEFT Poly, 16 skills"]
    goals = [
        Goal("16 experts: step time / one LoRA for the batch", ratio, "<= 1.25", ratio <= 1.25),
        Goal("16 experts: step time / PEFT Poly", against, "<= 1.05", against <= 1.05),
    ]
    finish({"step_time_over_lora": results}, goals, args.json)


if __name__ == "__main__":
    main()

"""Ways to train adapters on a step's examples: forward and backward, without the optimiser.

All are given the same loss, whose logits are computed where labels are: the model's own, over all
positions, would cost the rivals more.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PolyConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.batches.attention import attending_packed
from polyprag.method.batches.padded import pad_batch
from polyprag.method.examples import Example
from polyprag.method.experts import inject
from polyprag.method.loss import learnt_positions, training_loss_sum
from polyprag.method.training_batch import Batcher
from train_step.shapes import llama

TARGETS = ["gate_proj", "up_proj", "down_proj"]
RANK, MAX_TOKENS = 2, 8192
Step = Callable[[], None]


class Place(NamedTuple):
    """Where a model is, and what it computes in."""

    device: torch.device
    dtype: torch.dtype


CPU = Place(torch.device("cpu"), torch.float32)


def ours(
    shape: str,
    examples: Sequence[Example],
    *,
    experts: int,
    packs: bool,
    one_batch: bool = False,
    place: Place = CPU,
    compiled: bool = False,
    int8: bool = False,
) -> Step:
    """Returns polyprag's step: every example with a mixture of its own."""
    model = _placed(shape, place)
    if int8:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(model.model, Int8WeightOnlyConfig())  # the layers: the head shares embeddings
    pool = inject(model, ExpertsConfig(num=experts, rank=RANK), RouterConfig(), seed=0)
    _fill(pool.parameters())
    if compiled:
        model.compile(dynamic=True)
    gates = torch.randn(len(examples), pool.num_sites, experts, device=place.device)
    gates.requires_grad_()
    batcher = Batcher(0, MAX_TOKENS, packs=packs)

    def step() -> None:
        groups = batcher.groups(examples)
        if one_batch:
            groups = [list(range(len(examples)))]
        with attending_packed(model) if packs else nullcontext():
            for group in groups:
                batch = batcher.join([examples[i] for i in group]).to(place.device)
                loss = batch.loss_sum(model, pool, gates[group], distill_weight=1.0)
                torch.autograd.backward(loss / 100)
        _forget([*pool.parameters(), gates])

    return step


def base(shape: str, examples: Sequence[Example]) -> Step:
    """Returns the forward pass alone of the model without adapters, in groups of like length."""
    model = llama(shape)
    batcher = Batcher(0, MAX_TOKENS, packs=False)

    def step() -> None:
        with torch.inference_mode():
            for group in batcher.groups(examples):
                _loss(model, [examples[i] for i in group])

    return step


def lora(shape: str, examples: Sequence[Example], *, place: Place = CPU) -> Step:
    """Returns PEFT's step with one LoRA for all, in one padded batch: less than is needed here."""
    settings = LoraConfig(r=RANK, lora_alpha=32, target_modules=TARGETS)
    model = get_peft_model(_placed(shape, place), settings)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    _fill(weights)

    def step() -> None:
        torch.autograd.backward(_loss(model, examples) / 100)
        _forget(weights)

    return step


def lora_each(shape: str, examples: Sequence[Example]) -> Step:
    """Returns PRAG's: each passage has a LoRA of its own, and its examples are run with it."""
    by_passage: dict[int, list[Example]] = {}
    for example in examples:
        by_passage.setdefault(example.passage_id, []).append(example)
    model = get_peft_model(llama(shape), LoraConfig(r=RANK, lora_alpha=32, target_modules=TARGETS))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    _fill(weights)

    def step() -> None:
        for own in by_passage.values():  # whose LoRA it is makes no difference to the time
            torch.autograd.backward(_loss(model, own) / 100)
            _forget(weights)

    return step


def poly(shape: str, examples: Sequence[Example], *, experts: int) -> Step:
    """Returns PEFT's Poly layer, which mixes skills for each sequence, in one padded batch."""
    settings = PolyConfig(
        r=RANK,
        n_tasks=len(examples),
        n_skills=experts,
        n_splits=1,
        target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(llama(shape), settings)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    tasks = torch.arange(len(examples))

    def step() -> None:
        torch.autograd.backward(_loss(model, examples, task_ids=tasks) / 100)
        _forget(weights)

    return step


def _placed(shape: str, place: Place) -> LlamaForCausalLM:
    """Returns a model of a shape at its place; a copy of the weights where it is another's."""
    model = llama(shape)
    if place != CPU:
        model = copy.deepcopy(model).to(place.device, place.dtype)
    return model


def _loss(model: Any, examples: Sequence[Example], **inputs: Any) -> Tensor:
    ids, mask, labels = pad_batch(examples, 0)
    positions = learnt_positions(labels, None)
    ids, mask, labels, positions = (x.to(model.device) for x in (ids, mask, labels, positions))
    logits = model(
        input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=positions, **inputs
    ).logits
    return training_loss_sum(logits, labels, None, distill_weight=1.0, positions=positions)


def _fill(weights: Sequence[nn.Parameter]) -> None:
    """Gives adapters numbers: an untrained B is zero, and so would be A's gradient."""
    generator = torch.Generator().manual_seed(1)
    for weight in weights:
        weight.data = (torch.randn(weight.shape, generator=generator) * 0.01).to(weight)


def _forget(leaves: Sequence[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None

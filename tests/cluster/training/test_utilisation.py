"""The arithmetic of a step is what torch counts, and a device's peak is one that it reaches."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from cluster.training.utilisation import StepWork, peak_flops, step_work
from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.examples import Example
from polyprag.method.experts import inject
from polyprag.method.training_batch import Batcher


def test_the_work_of_a_step_is_what_torch_counts_where_gradients_go_all_the_way() -> None:
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    pool = inject(model, ExpertsConfig(num=4, rank=2, targets=targets), RouterConfig(), seed=0)
    ids = np.arange(40, dtype=np.int32)
    examples = [Example(0, ids, ids), Example(1, ids, ids)]
    batch = Batcher(0, 1000, packs=False).join(examples)
    gates = torch.randn(2, pool.num_sites, 4, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        batch.loss_sum(model, pool, gates, distill_weight=1.0).backward()  # type: ignore[no-untyped-call]
    # Below the first experts nothing learns: three Linears of the first layer pass no gradient on,
    # and their experts' A neither. Fused attention isn't counted by torch.
    first = model.get_submodule("model.layers.0.self_attn")
    unneeded = sum(
        2 * 80 * weight.numel()
        for name, weight in first.named_parameters()
        if "o_proj" not in name and "B_cat" not in name
    )
    work = step_work(model, pool)
    assert work.pair == 3 * 2 * 32 * 3  # forward and backward, two products, width, layers; halved
    attention = work.pair * 2 * 40**2
    assert counter.get_total_flops() == work.of(examples) - unneeded - attention


def test_what_is_skipped_is_attended_to_and_costs_nothing_else() -> None:
    work = StepWork(token=1000, learnt=100, pair=3)
    ids = np.arange(40, dtype=np.int32)
    labels = np.concatenate([np.full(30, -100, np.int32), ids[30:]])
    whole, skipping = Example(0, ids, labels), Example(0, ids, labels, skipped=16)
    prefix = Example(0, ids[:16], np.full(16, -100, np.int32))
    assert work.of([whole]) == work.of([skipping]) + work.of([prefix])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_peak_is_measured_where_no_datasheet_tells(dtype: torch.dtype) -> None:
    assert peak_flops(torch.device("cpu"), dtype) > 1e8


def test_a_known_device_has_its_datasheets_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert peak_flops(torch.device("cuda"), torch.bfloat16) == 989e12

"""The rough figure for activations against what autograd keeps, and the bounds of a batch."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from cluster.plan.memory import RowLoad, activation_bytes, batch_tokens, worker_memory
from cluster.plan.model_shape import model_shape
from polyprag.config import Config, DataConfig, ExpertsConfig, ModelConfig, RouterConfig
from polyprag.method.batches.attention import attending_packed
from polyprag.method.examples import Example
from polyprag.method.experts import inject
from polyprag.method.training_batch import Batcher

LLAMA = LlamaConfig(
    vocab_size=1000,
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def kept_bytes(
    model: PreTrainedModel, config: Config, *, num: int, length: int, packs: bool
) -> int:
    """Bytes of all tensors that autograd keeps from a forward pass, parameters aside."""
    pool = inject(model, config.experts, config.router, seed=0)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    ids = np.arange(length, dtype=np.int32)
    batch = Batcher(0, num * length, packs=packs).join([Example(i, ids, ids) for i in range(num)])
    gates = torch.randn(num, pool.num_sites, pool.num_experts, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        attending_packed(model) if packs else nullcontext(),
    ):
        batch.loss_sum(model, pool, gates, distill_weight=1.0)
    return sum(num_bytes for _, num_bytes in storages.values())


@pytest.mark.parametrize("packs", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("experts", "rank"), [(4, 2), (32, 4)])
def test_activations_are_no_less_than_autograd_keeps_and_no_more_than_twice(
    tmp_path: Path, dtype: str, experts: int, rank: int, packs: bool
) -> None:
    LLAMA.save_pretrained(tmp_path)
    config = replace(
        Config(),
        model=ModelConfig(path=str(tmp_path), dtype=dtype),
        data=DataConfig(max_length=64, microbatch=4, lanes=1),
        experts=ExpertsConfig(num=experts, rank=rank),
        router=RouterConfig(),
        cluster=replace(Config().cluster, workers=1),
    )
    shape = model_shape(config)
    assert batch_tokens(config, lanes=1) == 4 * 64
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(LLAMA, dtype=kind)
        kept = kept_bytes(model, config, num=4, length=64, packs=packs)
    assert kept <= activation_bytes(shape, config, lanes=1) <= 2 * kept


def test_a_batch_holds_no_more_than_a_step_and_no_less_than_an_example() -> None:
    config = replace(Config(), data=DataConfig(max_length=100, microbatch=4, lanes=8))
    tokens = [
        batch_tokens(replace(config, train=replace(config.train, max_tokens=most)), lanes=2)
        for most in (50, 500, 5000)
    ]
    assert tokens == [100, 500, 800]


def test_exact_training_keeps_the_experts_whole_and_its_lanes_gradients_apart(
    tmp_path: Path,
) -> None:
    LLAMA.save_pretrained(tmp_path)
    config = replace(Config(), model=ModelConfig(path=str(tmp_path)))
    config = replace(config, cluster=replace(config.cluster, workers=4))
    exact = replace(config, train=replace(config.train, exact=True))
    shape, rows = model_shape(config), RowLoad(held=0, partition=0, lanes=3, shard=0)
    experts = 4 * shape.expert_parameters
    needed = [worker_memory(shape, of, zero={}, rows=rows).host for of in (config, exact)]
    assert needed[0]["experts' optimiser"] < experts
    assert needed[1]["experts' optimiser"] == 2 * experts
    assert needed[1]["experts' gradients"] == 5 * experts

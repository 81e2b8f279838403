"""All of Wikipedia on 8 to 256 GPUs, by the step model and `polyprag plan`'s own forecast.

The model gives the speed of the busiest worker; lanes, steps and hours are those of
`cluster.plan.forecast`. What is assumed is in `ASSUMED`, and is printed with the result.
"""

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster.parallel.deepspeed_config import deepspeed_config
from cluster.plan.forecast import forecast
from cluster.plan.measured_speed import WorkerSpeed
from cluster.plan.model_shape import ModelShape, model_shape
from cluster.plan.steps import plan_encoding
from cluster.plan.token_sample import TokenSample
from harness.examples import PASSAGES, TINY_BASE
from polyprag.config import Config
from polyprag.config.files import load_config
from polyprag.method.batches.packed import row_groups
from polyprag.method.batches.padded import length_groups
from scaling.model import Compute, Network
from scaling.plan import synthetic_manifest
from sharding.stream.plan import lanes_of_worker

PASSAGES_OF_WIKIPEDIA = 21_015_324
FLOPS, UTILISATION = 989e12, 0.2
FAST, SLOW = 50e9, 12.5e9
LATENCY, LAUNCH = 10e-6, 10e-6
STEP = 5e-3
TOKENS_A_WORD = 4 / 3
ASSUMED = (
    "a GPU: 989 TFLOPS, dense bf16 (NVIDIA, H100 SXM datasheet, 2023), of which 20 % are used: "
    "half of Llama 3's 38 to 43 % in pretraining (arXiv 2407.21783, July 2024), because the "
    "matrices of a 1B model are small and the experts' are thin",
    "network: 400 Gb/s a GPU (NVIDIA, DGX H100 datasheet, 2023), or 100 Gb/s; all of it is used",
    "10 us for each of log2 W hops, and for the host to launch an operation: taken, not found",
    "5 ms a step for rows, gates, tokenising and the optimiser: taken",
    '4/3 tokens a word (OpenAI, "What are tokens and how to count them?", 2023)',
    "lengths of the quickstart's passages, with the config's number of rewrites and questions",
    "stragglers: by their examples' lengths only; no slow GPU, no failure, no checkpoint; data and "
    "rows are there in time; nothing overlaps",
)
# The base's public shape: its config.json needs an account to be fetched.
_LLAMA_1B: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True, slots=True)
class Variant:
    """What is changed of the config, or of the cluster.

    Attributes:
        name: for the table.
        stage: of ZeRO.
        packs: whether examples are packed into rows, and logits computed where labels are.
        overhead: tokens that another physical batch is taken to cost, see `length_groups`.
        partition_size: passages.
        microbatch: examples of a lane.
        bandwidth: bytes a second of a worker's network.
    """

    name: str
    stage: int = 2
    packs: bool = False
    overhead: int = 64
    partition_size: int = 8192
    microbatch: int = 4
    bandwidth: float = FAST


@dataclass(frozen=True, slots=True)
class Row:
    """A number of workers; seconds are means over steps."""

    workers: int
    step: float
    compute: float
    waiting: float
    communication: float
    batches: float
    tokens_per_second: float
    hours: float


def wikipedia() -> tuple[Config, ModelShape]:
    """The shipped config, and the shapes of its base and experts."""
    from transformers import LlamaConfig

    with tempfile.TemporaryDirectory() as directory:
        LlamaConfig(**_LLAMA_1B).save_pretrained(directory)
        config = load_config(["wikipedia-21m"], [f"model.path={directory}"])
        return config, model_shape(config)


def lengths_of_examples(config: Config, *, passages: int = 200) -> tuple[list[int], float]:
    """Tokens of examples as the config makes them, from passages of examples/popqa.

    Returns:
        The tokens of each, and the share of all of them that has a loss.
    """
    from polyprag.augment.corpus import augment_corpus
    from polyprag.config import ModelConfig
    from polyprag.method.base_model import load_tokenizer
    from polyprag.method.examples import examples_of
    from sharding.corpus.reader import Corpus
    from sharding.ingest.prepare import prepare

    tokenizer = load_tokenizer(ModelConfig(path=str(TINY_BASE)))
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        source = Path(temporary) / "passages.jsonl"
        lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)[:passages]
        source.write_text("".join(lines), encoding="utf-8")
        prepare([str(source)], run / "corpus", partition_size=256)
        rules = replace(config.augment, backend="rules", model=None, base_url=None)
        augment_corpus(run, replace(config, augment=rules))
        examples = [
            example
            for record in Corpus.open(run / "corpus").iterate()
            for example in examples_of(record, tokenizer, config.data, loss_on=config.train.loss_on)
        ]
        learnt = sum(example.num_counted for example in examples) / sum(map(len, examples))
        words = [len(tokenizer.decode(example.input_ids.tolist()).split()) for example in examples]
        return [round(TOKENS_A_WORD * number) for number in words], learnt


def operations(config: Config, *, packs: bool) -> int:
    """Operations that a physical batch launches, forward and backward, counted on a small model."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from transformers import LlamaConfig, LlamaForCausalLM

    from polyprag.method.batches.attention import attending_packed
    from polyprag.method.examples import IGNORED, Example
    from polyprag.method.experts import inject
    from polyprag.method.training_batch import Batcher

    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.number = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            # A view launches nothing.
            self.number += not func.is_view
            return func(*args, **(kwargs or {}))

    small = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "head_dim": 2}
    model = LlamaForCausalLM(LlamaConfig(**_LLAMA_1B | small))
    pool = inject(model, replace(config.experts, num=2, rank=1), config.router, seed=0)
    labels = np.array([IGNORED] * 6 + [1, 1], np.int32)
    examples = [Example(i, np.ones(8, np.int32), labels) for i in range(2)]
    batch = Batcher(0, config.train.max_tokens, packs=packs).join(examples)
    gates = torch.ones((2, pool.num_sites, 2), requires_grad=True)
    with Counting() as counting, attending_packed(model) if packs else nullcontext():
        torch.autograd.backward(batch.loss_sum(model, pool, gates, distill_weight=1.0))
    return counting.number


def compute_of(shape: ModelShape, operations: int, *, learnt: float = 1.0) -> Compute:
    """A GPU's: 4 operations for each weight and token, and 6 for each of the experts'.

    Args:
        shape: of the model, whose embedding is its output layer, too.
        operations: that a physical batch launches.
        learnt: share of the tokens whose logits are computed.
    """
    head = shape.vocabulary * shape.hidden
    weights = shape.base_parameters - (1 - learnt) * head
    token = (4 * weights + 6 * shape.expert_parameters) / (FLOPS * UTILISATION)
    return Compute(STEP, 0.0, token, floor=operations * LAUNCH)


def predict(
    config: Config,
    shape: ModelShape,
    lengths: Sequence[int],
    compute: Compute,
    variant: Variant,
    *,
    workers: Sequence[int],
    steps: int,
) -> list[Row]:
    """Steps of drawn examples on so many workers, and what `polyprag plan` makes of their speed."""
    config = replace(config, data=replace(config.data, microbatch=variant.microbatch))
    lanes, microbatch = config.data.lanes, config.data.microbatch
    drawn = np.random.default_rng(0).choice(np.array(lengths), (steps, lanes, microbatch))
    network = Network(LATENCY, variant.bandwidth)
    experts = 4 * shape.expert_parameters
    per_example = float(np.mean(lengths))
    manifest = synthetic_manifest(
        PASSAGES_OF_WIKIPEDIA, partition_size=variant.partition_size, qas=config.augment.wanted_qas
    )
    rows = []
    for number in workers:
        changed = replace(
            config,
            deepspeed=replace(config.deepspeed, stage=variant.stage, config=None),
            cluster=replace(config.cluster, workers=number),
        )
        taken = [_step(of_step, changed, compute, network, experts, variant) for of_step in drawn]
        compute_s, busiest, communication, batches = (
            statistics.mean(column) for column in zip(*taken, strict=True)
        )
        step = busiest + communication
        plan = plan_encoding(manifest, changed, corpus_url="corpus")
        zero = deepspeed_config(changed, world_size=number)["zero_optimization"]
        most = len(lanes_of_worker(0, world_size=number, num_lanes=lanes)) * microbatch
        found = forecast(
            manifest,
            changed,
            plan,
            shape,
            zero=zero,
            sample=TokenSample(
                len(lengths), plan.examples[0] / manifest.partition_size, per_example, 0
            ),
            speed=WorkerSpeed(most * per_example / step, "the step model"),
        )
        assert found.time is not None and found.tokens is not None
        rows.append(
            Row(
                workers=number,
                step=step,
                compute=compute_s,
                waiting=busiest - compute_s,
                communication=communication,
                batches=batches,
                tokens_per_second=found.tokens.per_epoch * plan.epochs / found.time.seconds,
                hours=found.time.seconds / 3600,
            )
        )
    return rows


def _step(
    lengths_of_lanes: Any,
    config: Config,
    compute: Compute,
    network: Network,
    experts: int,
    variant: Variant,
) -> tuple[float, float, float, int]:
    """Mean and busiest worker's compute, communication, and physical batches of a step."""
    workers, max_tokens = config.cluster.workers, config.train.max_tokens
    padded = []
    for rank in range(workers):
        lanes = lanes_of_worker(rank, world_size=workers, num_lanes=config.data.lanes)
        lengths = lengths_of_lanes[lanes].ravel()
        if variant.packs:
            rows = row_groups(lengths.tolist(), max_tokens)
            padded.append([int(lengths[row].sum()) for row in rows])
            continue
        groups = length_groups(lengths.tolist(), max_tokens, overhead=variant.overhead)
        padded.append([len(group) * int(lengths[group].max()) for group in groups])
    num = max(map(len, padded))
    seconds = [compute.seconds(of, num_batches=num) for of in padded]
    reductions = num if config.deepspeed.stage == 2 else 1
    communication = network.step_seconds(experts, workers=workers, reductions=reductions)
    return statistics.mean(seconds), max(seconds), communication, num

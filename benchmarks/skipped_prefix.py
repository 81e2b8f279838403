"""What it costs and saves that experts leave alone what all chat prompts begin with.

    python benchmarks/skipped_prefix.py [--quick] [--json FILE] [--work DIR] [--passages FILE]
                                        [--first N] [--number N] [--seeds N,N] [KEY=VALUE ...]

Trains SmolLM2 (`make real-model`) on the same passages with `experts.skip_prefix` off and on, and
asks held-out questions on the passages' lead facts, in wordings that no training used, with each
passage's own row. Of what was trained with it on, also with experts on every token, as adapters in
other engines act. Then times, in turns, a step of 16 examples, and how long 16 prompts with a
mixture each take to read. FILE has JSON lines with id, title and text; by default the passages of
examples/popqa. With --work, what is measured is kept there, and the same command goes on. --quick
takes the quickstart's base, with a chat template that it has never seen.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from harness.cells import Cells
from harness.examples import PASSAGES, ROOT, TINY_BASE
from harness.plain_workers import encode_here
from harness.reporting import Goal, finish, options, show
from polyprag.augment import rules
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from polyprag.config.files import load_config, save_config
from polyprag.decoding.continuation import Continuation
from polyprag.decoding.decoder import Decoder
from polyprag.decoding.sampling import Sampling
from polyprag.decoding.text_stream import TextStream
from polyprag.evaluation.held_out_questions import write_lead_questions
from polyprag.evaluation.run import evaluate, parse_methods
from polyprag.method.base_model import load_base
from polyprag.method.batches.attention import attending_packed
from polyprag.method.examples import Example, examples_of
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.prompts import PromptTokenizer, qa_prompt
from polyprag.method.support.packing import batcher_for
from polyprag.retrieval.building.index import build_index
from sharding.corpus.passages import Passage, Record
from sharding.ingest.prepare import prepare

SETTINGS = (
    *("index.encoder=lsa", "index.lsa_dims=8", "retrieval.method=dense", "cluster.workers=1"),
    *("data.partition_size=8", "augment.backend=rules"),
)
QUESTIONS = 250  # asked at most
EXAMPLES, TURNS = 16, 5  # in a step, and prompts read at a time; how often each is timed
SIDES = {"everywhere": "experts on every token", "skipping": "experts skip the prefix"}


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep what is measured there")
    parser.add_argument("--passages", type=Path, metavar="FILE", default=PASSAGES)
    parser.add_argument(
        "--first", type=int, default=0, metavar="N", help="passages left out before"
    )
    parser.add_argument("--number", type=int, default=28, metavar="N", help="of the passages")
    parser.add_argument("--seeds", default="0,1", metavar="N,N", help="of the trainings")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of all runs")
    args = parser.parse_args()
    lines = args.passages.resolve().read_text(encoding="utf-8").splitlines(keepends=True)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    number = 8 if args.quick else args.number
    os.chdir(ROOT)  # the models' paths are relative to it
    with tempfile.TemporaryDirectory(prefix="skipped-prefix-") as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        cells = Cells(work / "cells.jsonl")
        preset, more = "smollm2", []
        if args.quick:
            base = chatting_base(Path(temporary))
            preset, more = (
                "quickstart",
                [f"model.path={base}", "generation.prompt=chat", "train.epochs=4"],
            )
        found = []
        for seed in seeds[:1] if args.quick else seeds:
            for side in SIDES:
                overrides = [*SETTINGS, *more, *args.overrides, f"train.seed={seed}"]
                overrides.append(f"experts.skip_prefix={str(side == 'skipping').lower()}")
                settings = {
                    "side": side,
                    "seed": seed,
                    "first": args.first,
                    "number": number,
                    "overrides": overrides,
                }
                chosen = lines[args.first : args.first + number]
                measured = cells.measured(
                    settings, lambda c=chosen, o=overrides: measure(c, load_config([preset], o))
                )
                found.append({"side": side, "seed": seed} | measured)
        seconds = in_turns(
            lines[args.first : args.first + 8], load_config([preset], [*SETTINGS, *more])
        )
    results = {"quick": args.quick, "passages": number, "trainings": found, "seconds": seconds}
    finish(results, told(found, seconds), args.json)
    return 0


def chatting_base(directory: Path) -> Path:
    """Makes a copy of the quickstart's base whose tokenizer has a chat template."""
    base = directory / "base"
    shutil.copytree(TINY_BASE, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    tokenizer.save_pretrained(base)
    return base


def told(found: list[dict[str, Any]], seconds: dict[str, dict[str, float]]) -> list[Goal]:
    """Shows what was measured, and holds the sides against each other."""
    columns = ("F1", "F1, experts everywhere", "tokens a step")
    rows = [[SIDES[row["side"]], row["seed"], *(row[name] for name in columns)] for row in found]
    show("trained", ("", "seed", *columns), rows)
    show("seconds", ("", *seconds), [[SIDES[s], *(o[s] for o in seconds.values())] for s in SIDES])
    means = {
        side: {name: fmean(row[name] for row in found if row["side"] == side) for name in columns}
        for side in SIDES
    }
    ratios = {
        name: means["skipping"][name] / means["everywhere"][name]
        for name in (columns[0], columns[2])
    } | {name: of_side["skipping"] / of_side["everywhere"] for name, of_side in seconds.items()}
    f1 = ratios.pop("F1")
    return [
        Goal("F1, skipping / everywhere", f1, ">= .98", f1 >= 0.98),
        *(
            Goal(f"{name}, skipping / everywhere", ratio, "<= .75", ratio <= 0.75)
            for name, ratio in ratios.items()
        ),
    ]


def measure(lines: list[str], config: Config) -> dict[str, float]:
    """Trains on passages, asks about them, and times how long prompts take to read."""
    with tempfile.TemporaryDirectory(prefix="skipped-prefix-run-") as directory:
        run = Path(directory) / "run"
        run.mkdir()
        source = run / "passages.jsonl"
        source.write_text("".join(lines), encoding="utf-8")
        prepare([str(source)], run / "corpus", partition_size=config.data.partition_size)
        augment_corpus(run, config)
        save_config(config, run)
        encode_here(run, config)
        build_index(run, config)
        questions = run / "questions.jsonl"
        write_lead_questions(run, questions, limit=QUESTIONS)
        f1 = f1_of(run, config, questions)
        everywhere = f1
        if config.experts.skip_prefix:
            with on_every_token():
                everywhere = f1_of(run, config, questions)
        logged = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        steps = [json.loads(line) for line in logged]
        return {
            "F1": f1,
            "F1, experts everywhere": everywhere,
            "tokens a step": fmean(step["tokens"] for step in steps),
            "steps": len(steps),
            "last loss": steps[-1]["loss"],
        }


def f1_of(run: Path, config: Config, questions: Path) -> float:
    """Returns the F1 of questions with each passage's own row."""
    results = evaluate(
        run,
        config,
        questions_path=questions,
        methods=parse_methods("poly"),
        out_dir=run / "results",
        gold_passages=True,
    )
    return float(results["poly"]["f1"])


@contextmanager
def on_every_token() -> Iterator[None]:
    """Has experts act on all of a prompt inside the block."""
    with patch.object(PromptTokenizer, "_beginning", lambda _: ()):
        yield


def in_turns(lines: list[str], config: Config) -> dict[str, dict[str, float]]:
    """Returns the seconds of a step and of reading prompts, of each side; random experts."""
    model, tokenizer = load_base(config.model)
    pool = inject(model, config.experts, config.router, seed=0)
    sides = {
        side: replace(config, experts=replace(config.experts, skip_prefix=side == "skipping"))
        for side in SIDES
    }
    steps = {
        side: a_step(lines, of_side, model, pool, tokenizer) for side, of_side in sides.items()
    }
    found: dict[str, dict[str, list[float]]] = {
        name: {side: [] for side in SIDES} for name in ("a step", "reading prompts")
    }
    for _ in range(TURNS):
        for side, step in steps.items():
            found["a step"][side].append(timed(step))
    for parameter in pool.parameters():
        parameter.requires_grad_(False)
    reads = {side: prompts_read(of_side, model, pool, tokenizer) for side, of_side in sides.items()}
    for _ in range(TURNS):
        for side, read in reads.items():
            found["reading prompts"][side].append(timed(read))
    return {
        name: {side: median(seconds) for side, seconds in of_name.items()}
        for name, of_name in found.items()
    }


def timed(work: Callable[[], None]) -> float:
    """Returns the seconds of some work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def a_step(
    lines: list[str],
    config: Config,
    model: PreTrainedModel,
    pool: ExpertPool,
    tokenizer: PreTrainedTokenizerBase,
) -> Callable[[], None]:
    """Returns what runs a step's examples forward and backward."""
    batcher = batcher_for(model, pool, config, tokenizer)
    examples: list[Example] = []
    for at, row in enumerate(map(json.loads, lines)):
        passage = Passage(at, row["id"], row["title"], row["text"])
        written = rules.augment(passage, num_rewrites=0, num_qas=4, seed=0)
        examples += examples_of(
            Record(passage, written),
            tokenizer,
            config.data,
            loss_on=config.train.loss_on,
            generation=config.generation,
            skip_prefix=config.experts.skip_prefix,
        )
    examples = examples[:EXAMPLES]
    gates = torch.randn(len(examples), pool.num_sites, pool.num_experts, requires_grad=True)

    def run() -> None:
        with attending_packed(model):
            for group in batcher.groups(examples):
                batch = batcher.join([examples[i] for i in group])
                loss = batch.loss_sum(model, pool, gates[group], distill_weight=1.0)
                torch.autograd.backward(loss)

    return run


def prompts_read(
    config: Config, model: PreTrainedModel, pool: ExpertPool, tokenizer: PreTrainedTokenizerBase
) -> Callable[[], None]:
    """Returns what reads prompts with a mixture each, up to their first tokens."""
    words = PromptTokenizer(tokenizer, config.generation, skip_prefix=config.experts.skip_prefix)
    prompts = words.prompt_ids([qa_prompt(f"Where was person {i} born?") for i in range(EXAMPLES)])
    gates = torch.randn(EXAMPLES, pool.num_sites, pool.num_experts)
    decoder = Decoder(model, tokenizer, pool=pool, prefix_ids=words.skipped_ids, most=EXAMPLES)

    def run() -> None:
        for prompt, mixture in zip(prompts, gates, strict=True):
            once = Sampling(max_new_tokens=1)
            text = TextStream(tokenizer)
            decoder.submit([Continuation(prompt, sampling=once, text=text, gates=mixture)])
        decoder.run()

    return run


if __name__ == "__main__":
    sys.exit(main())

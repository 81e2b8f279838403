"""What an answer costs with a mixture of its own, beside none, PRAG's procedure and peft's ways.

    python benchmarks/answering.py [--quick] [--json FILE] [--shapes tiny,135M] [--rounds N]

Random models, one with the sizes of examples/tiny-base and one with those of SmolLM2-135M, continue
random prompts by as many tokens as each request wants, so that all sides do the same work: the
engine with no experts, with mixtures, and with three passages in the prompt; PRAG by the book (load
three adapters, concatenate, answer, delete); peft's hot-swapped adapters and its mixed batches; one
`generate` a batch; and transformers' continuous batching, which knows no adapters. Sides take turns
in each round, and a figure is the median of the rounds. What a search costs is left out, on every
side. Of the sides that answer one question after the other, batches are as many questions.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from answering.methods import (
    Method,
    continuous_generate,
    engine,
    hot_swapped,
    mixed_adapters,
    one_generate,
    prag_by_the_book,
)
from answering.models import Asked, adapters, config_of, plain_model, requests, routed_model
from harness.reporting import Goal, finish, options, show

MIXTURES = ("distinct", "uniform", "skewed", "identical")
SAME_LENGTH, MIXED_LENGTHS = (16, 16), (4, 64)
COLUMNS = ("side", "batch", "tokens/s", "first token, p50 s", "answer, p50 s", "p95 s", "MiB")
ADAPTERS = 12
# Questions that sides are asked at most: those who answer one after the other, and those with long
# prompts, whose time is as many times that of one.
FEWER = {"peft, hot-swapped": 16, "PRAG by the book": 16, "engine, 3 passages in the prompt": 4}

Figures = dict[str, Any]


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="tiny,135M", metavar="NAME,NAME")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 7 of tiny, else 3")
    args = parser.parse_args()
    shapes = ["tiny"] if args.quick else args.shapes.split(",")
    batches = (1, 16) if args.quick else (1, 4, 16, 64)
    found: dict[str, list[Figures]] = {}
    goals: list[Goal] = []
    for shape in shapes:
        rounds = args.rounds or (3 if args.quick or shape != "tiny" else 7)
        with tempfile.TemporaryDirectory(prefix="answering-") as directory:
            found[shape] = measured(shape, Path(directory), batches=batches, rounds=rounds)
        rows = [[figures[name] for name in COLUMNS] for figures in found[shape]]
        show(f"{shape}: {config_of(shape).num_hidden_layers} layers", COLUMNS, rows)
        goals += goals_of(shape, found[shape])
    finish({"quick": args.quick, "found": found}, goals, args.json)
    return 0


def measured(shape: str, directory: Path, *, batches: Sequence[int], rounds: int) -> list[Figures]:
    """Times all sides at all batch sizes."""
    model, pool = routed_model(shape)
    paths = adapters(shape, directory, number=ADAPTERS)
    plain = plain_model(shape)
    routed = engine(model, pool, routed=True)
    sides: dict[str, Method] = {
        "engine, no experts": engine(model, pool, routed=False),
        **{f"engine, {name} mixtures": routed for name in MIXTURES},
        "engine, 3 passages in the prompt": engine(model, pool, routed=False, in_context=True),
        "one generate": one_generate(plain),
        "transformers' continuous batching": continuous_generate(shape),
        "peft, mixed batch": mixed_adapters(shape, paths),
        "peft, hot-swapped": hot_swapped(shape, paths),
        "PRAG by the book": prag_by_the_book(shape, paths),
    }
    found = []

    def asked(side: str, number: int, lengths: tuple[int, int]) -> list[Asked]:
        mixtures = next((name for name in MIXTURES if name in side), "distinct")
        return requests(
            pool,
            number=number,
            mixtures=mixtures,
            vocabulary=model.config.vocab_size,
            new_tokens=lengths,
        )

    for number in batches:
        alike = {
            side: asked(side, number, SAME_LENGTH)
            for side in sides
            if number <= FEWER.get(side, number)
            and (number > 1 or side.split(", ")[-1].split()[0] not in MIXTURES[1:])
        }
        found += timed(sides, alike, label=str(number), rounds=rounds)
        print(f"{shape}: {number} at a time is timed", flush=True)
    number = max(batches)
    names = ("engine, no experts", "engine, distinct mixtures", "one generate")
    mixed = {side: asked(side, number, MIXED_LENGTHS) for side in names}
    return found + timed(sides, mixed, label=f"{number}, 4 to 64 tokens", rounds=rounds)


def timed(
    sides: dict[str, Method], asked: dict[str, list[Asked]], *, label: str, rounds: int
) -> list[Figures]:
    """Returns each side's figures; they take turns."""
    times: dict[str, list[Any]] = {side: [] for side in asked}
    memory: dict[str, float] = {}
    for side, requested in asked.items():  # once before it counts: what is compiled, what is mapped
        memory[side] = _peak_mib(lambda: sides[side](requested))  # noqa: B023
    for at in range(rounds):
        order = list(asked)[at % len(asked) :] + list(asked)[: at % len(asked)]
        for side in order:
            times[side].append(sides[side](asked[side]))
    found = []
    for side, each in times.items():
        tokens = sum(request.new_tokens for request in asked[side])
        figures = {
            "side": side,
            "batch": label,
            "seconds": statistics.median(one.total for one in each),
            "tokens/s": statistics.median(tokens / one.total for one in each),
            "first token, p50 s": statistics.median(float(np.median(one.first)) for one in each),
            "answer, p50 s": statistics.median(float(np.median(one.last)) for one in each),
            "p95 s": statistics.median(float(np.quantile(one.last, 0.95)) for one in each),
            "MiB": memory[side],
        }
        print(f"measured: {side}, batch {label}: {figures['tokens/s']:.1f} tokens/s", flush=True)
        found.append(figures)
    return found


def _peak_mib(work: Callable[[], object]) -> float:
    """Returns by how much resident memory is at its peak above what it was."""
    process, ended = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    peak = before

    def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.01)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        work()
    finally:
        ended.set()
        watching.join()
    return (peak - before) / 2**20


def goals_of(shape: str, found: list[Figures]) -> list[Goal]:
    """Compares the sides of one shape."""
    seconds = {(each["side"], each["batch"]): each["seconds"] for each in found}
    batches = sorted({int(batch) for _, batch in seconds if batch.isdecimal()})
    most = batches[-1]
    base, distinct = "engine, no experts", "engine, distinct mixtures"

    def ratio(side: str, other: str, batch: str) -> float:
        return float(seconds[side, batch] / seconds[other, batch])

    poly = ratio(distinct, base, "1")
    prag = ratio(distinct, "PRAG by the book", "1")
    at_most = 1 / ratio(distinct, base, str(most))
    mixed = f"{most}, 4 to 64 tokens"
    generated = ratio("one generate", base, mixed)
    goals = [
        Goal(f"{shape}: poly / PRAG by the book, one question", prag, "<= .48", prag <= 0.48),
        Goal(f"{shape}: tokens/s of {most} mixtures / none", at_most, ">= .9", at_most >= 0.9),
        Goal(f"{shape}: engine / one generate, {mixed}", generated, ">= 2", generated >= 2),
    ]
    if shape != "tiny":
        goals.insert(
            0, Goal(f"{shape}: poly / closed, one question", poly, "<= 1.05", poly <= 1.05)
        )
    return goals


if __name__ == "__main__":
    sys.exit(main())

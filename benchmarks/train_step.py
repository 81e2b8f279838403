"""What a training step costs: packed, padded, beside one LoRA, PEFT's Poly and a LoRA a passage.

    python benchmarks/train_step.py [--quick] [--json FILE] [--shapes SHAPE,SHAPE] [--rounds N]
                                    [--examples N] [--also WAY,WAY]

Forward and backward of the same examples, of the quickstart's lengths, in turns: the base's forward
pass alone; one LoRA of PEFT for all, and its Poly layer, in one padded batch; a LoRA for each
passage, whose examples are run in turn, as PRAG trains; and polyprag with 32 experts of rank 2,
in the LoRA's batch, padded in groups of like length, and packed. The median of
each, and what memory it took of a process that did nothing else. SHAPE is tiny (the base
model that ships here), 135M, 350M or 1B; all but the first are random weights. In bf16 where the
processor computes in it. WAY is compiled (by torch.compile) or int8 (a base in int8, by torchao,
which has to be installed). One process, as many threads as OMP_NUM_THREADS says (1 by default).
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from harness.reporting import Goal, finish, options, show
from polyprag.method.examples import Example
from train_step import sides
from train_step.shapes import SHAPES, quickstart_examples

EXPERTS = 32
PACKED, PADDED = "packed", "padded in groups"
LORA, POLY = "PEFT LoRA, one", "PEFT Poly"
SAME_BATCH = "the LoRA's batch"
MORE, FEWER = "packed, K = 64", "packed, K = 8"
Way = Callable[[str, list[Example]], sides.Step]
WAYS: dict[str, Way] = {
    "base forward": sides.base,
    LORA: sides.lora,
    "PRAG, in turn": sides.lora_each,
    POLY: lambda shape, some: sides.poly(shape, some, experts=EXPERTS),
    SAME_BATCH: lambda shape, some: sides.ours(
        shape, some, experts=EXPERTS, packs=False, one_batch=True
    ),
    PADDED: lambda shape, some: sides.ours(shape, some, experts=EXPERTS, packs=False),
    PACKED: lambda shape, some: sides.ours(shape, some, experts=EXPERTS, packs=True),
    FEWER: lambda shape, some: sides.ours(shape, some, experts=8, packs=True),
    MORE: lambda shape, some: sides.ours(shape, some, experts=64, packs=True),
}
MORE_WAYS: dict[str, Way] = {
    "compiled": lambda shape, some: sides.ours(
        shape, some, experts=EXPERTS, packs=True, compiled=True
    ),
    "int8": lambda shape, some: sides.ours(shape, some, experts=EXPERTS, packs=True, int8=True),
}
if torch.cpu._is_avx512_bf16_supported():
    _BF16 = sides.Place(sides.CPU.device, torch.bfloat16)
    WAYS["packed, bf16"] = lambda shape, some: sides.ours(
        shape, some, experts=EXPERTS, packs=True, place=_BF16
    )


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="", metavar="SHAPE,SHAPE", help="[tiny,135M]")
    parser.add_argument("--rounds", type=int, metavar="N", help="[9; 3 of a large shape]")
    parser.add_argument("--examples", type=int, metavar="N", help="of a step  [64; 16 of a large]")
    parser.add_argument("--also", default="", metavar="WAY,WAY", help="compiled, int8")
    parser.add_argument("--memory-of", metavar="WAY", help=argparse.SUPPRESS)
    args = parser.parse_args()
    shapes = args.shapes.split(",") if args.shapes else ["tiny"] if args.quick else ["tiny", "135M"]
    if unknown := sorted(set(shapes) - {"tiny", *SHAPES}):
        parser.error(f"--shapes: {unknown[0]!r} is none of tiny, {', '.join(SHAPES)}")
    also = [way for way in args.also.split(",") if way]
    if unknown := sorted(set(also) - MORE_WAYS.keys()):
        parser.error(f"--also: {unknown[0]!r} is none of {', '.join(MORE_WAYS)}")
    ways = WAYS | {f"packed, {way}": MORE_WAYS[way] for way in also}
    examples = {}
    for shape in shapes:
        is_small = shape == "tiny"
        examples[shape] = args.examples or (24 if args.quick else 64 if is_small else 16)
    if args.memory_of:
        step = ways[args.memory_of](shapes[0], quickstart_examples(examples[shapes[0]]))
        before = memory("VmRSS")
        step()
        print(memory("VmHWM") - before)
        return 0
    found, goals = {}, []
    for shape in shapes:
        some = quickstart_examples(examples[shape])
        rounds = args.rounds or (3 if args.quick or shape != "tiny" else 9)
        found[shape] = measured(shape, some, ways, also=also, rounds=rounds)
        goals += goals_of(shape, {way: row["seconds"] for way, row in found[shape].items()})
    finish({"quick": args.quick, "shapes": found}, goals, args.json)
    return 0


def measured(
    shape: str, some: list[Example], ways: Mapping[str, Way], *, also: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Returns seconds, useful tokens a second and bytes of each way."""
    steps = {way: make(shape, some) for way, make in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    for turn in range(rounds + 1):
        for way, step in steps.items():
            started = time.perf_counter()
            step()
            if turn:  # the first warms up
                seconds[way].append(time.perf_counter() - started)
    steps.clear()
    tokens = sum(len(example) for example in some)
    rows = {
        way: {
            "seconds": statistics.median(times),
            "tokens_per_second": tokens / statistics.median(times),
            "bytes": memory_of(shape, way, len(some), also),
        }
        for way, times in seconds.items()
    }
    show(
        f"{shape}: {len(some)} examples of {len({e.passage_id for e in some})} passages, "
        f"{tokens} tokens, the longest {max(map(len, some))}",
        ("step", "ms", "useful tokens/s", "x packed", "MiB"),
        [
            (
                way,
                row["seconds"] * 1000,
                row["tokens_per_second"],
                row["seconds"] / rows[PACKED]["seconds"],
                round(row["bytes"] / 2**20),
            )
            for way, row in rows.items()
        ],
    )
    return rows


def memory(name: str) -> int:
    """Returns what this process has in memory, or had at most, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def memory_of(shape: str, way: str, number: int, also: list[str]) -> float:
    """Returns the bytes that one step takes at most, in a process of its own."""
    command = [sys.executable, __file__, "--shapes", shape, "--examples", str(number)]
    command += ["--also", ",".join(also)]
    said = subprocess.run(
        [*command, "--memory-of", way], check=True, capture_output=True, text=True, timeout=900
    )
    return float(said.stdout.splitlines()[-1])


def goals_of(shape: str, seconds: dict[str, float]) -> list[Goal]:
    """Compares the ways of a shape."""
    goals: list[Goal] = []

    def at_most(name: str, value: float, most: float) -> None:
        goals.append(Goal(f"{shape}: {name}", value, f"<= {most:g}", value <= most))

    at_most("packed / padded", seconds[PACKED] / seconds[PADDED], 0.6)
    at_most("the same padded batch / one LoRA", seconds[SAME_BATCH] / seconds[LORA], 1.05)
    at_most("64 experts / 8", seconds[MORE] / seconds[FEWER], 1.15)
    value = seconds[POLY] / seconds[PACKED]
    goals.append(Goal(f"{shape}: useful tokens/s / PEFT Poly's", value, ">= 2", value >= 2))
    return goals


if __name__ == "__main__":
    sys.exit(main())

"""How training grows with workers and passages: measured here, on paper and dry for 256.

    python benchmarks/scaling.py [--quick] [--json FILE] [--only PART,PART]

steps: the quickstart's training on 1, 2 and 4 workers, the same global batches, in turns.
bytes: what a worker sends in a step, for other numbers of passages, rows' widths and workers.
paper: a model of a step, fitted to the first and held against 4 workers, for 8 to 256 GPUs.
dry: the planning, leases and checkpoints of 21 M passages on 256 workers, without training.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.examples import ROOT
from harness.reporting import Goal, add_parts, finish, options
from scaling.dry_run import QUICK, WHOLE, dry_run
from scaling.report_bytes import Traffic, traffic, traffic_of
from scaling.report_dry import dry
from scaling.report_paper import paper
from scaling.report_steps import steps as report_steps
from scaling.runs import Run, quickstart_run, row_of, save_small_base, uniform_run
from scaling.workers import Ranks, Task, train_group

PARTS = ("steps", "bytes", "paper", "dry")
WORKERS = (1, 2, 4)
_SHARES = (1, 2, 4)  # of the microbatch, by which one worker's compute is fitted


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    add_parts(parser, PARTS)
    parser.add_argument("--repeats", type=int, metavar="N", help="of the steps, in turns")
    args = parser.parse_args()
    os.chdir(ROOT)  # the model's path is relative to it
    results: dict[str, Any] = {"quick": args.quick, "cores": os.cpu_count()}
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory(prefix="scaling-") as temporary:
        place = Path(temporary)
        steps: dict[str, list[Ranks]] = {}
        if "steps" in args.only:
            run = quickstart_run(place / "quickstart")
            repeats = args.repeats or (1 if args.quick else 5)
            steps = measure_steps(run, steps=6 if args.quick else 12, repeats=repeats)
            results["steps"], of_steps = report_steps(run, steps)
            goals += of_steps
        if "bytes" in args.only:
            cases = measure_bytes(place, quick=args.quick)
            for key in ("2", "4") if steps else ():
                cases.append(traffic_of(run, run.overrides(), steps[key][0]))
            results["bytes"], of_bytes = traffic(cases)
            goals += of_bytes
    if "paper" in args.only:
        results["paper"], of_paper = paper(quick=args.quick)
        goals += of_paper
    if "dry" in args.only:
        started = time.monotonic()
        size, partition_sizes = (QUICK, [256]) if args.quick else (WHOLE, [8192, 256])
        made = dry_run(size, partition_sizes)
        results["dry"], of_dry = dry(made, seconds=time.monotonic() - started)
        goals += of_dry
    finish(results, goals, args.json)
    return 0


def measure_steps(run: Run, *, steps: int, repeats: int) -> dict[str, list[Ranks]]:
    """Steps of the quickstart, one group of workers after the other, so many times.

    Returns:
        By the number of workers, and for one worker also by the share of the batch: a group's
        steps for each repeat.
    """
    microbatch = run.config.data.microbatch
    shares = [run.overrides({"data.microbatch": microbatch // share}) for share in _SHARES]
    measured: dict[str, list[Ranks]] = {}
    for _ in range(repeats):
        alone = [Task(str(run.directory), tuple(of), steps) for of in shares]
        for share, ranks in zip(_SHARES, train_group(alone, workers=1), strict=True):
            measured.setdefault(f"1 / {share}" if share > 1 else "1", []).append(ranks)
        for workers in WORKERS[1:]:
            task = Task(str(run.directory), tuple(run.overrides()), steps)
            measured.setdefault(str(workers), []).append(train_group([task], workers=workers)[0])
            print(f"  {workers} workers: {steps} steps", file=sys.stderr)
    return measured


def measure_bytes(place: Path, *, quick: bool) -> list[Traffic]:
    """A step's bytes on two workers: for corpora and rows of several sizes, and at ZeRO 1."""
    base = place / "base"
    save_small_base(base)
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000)
    narrow, wider = ("model", 16), [("layer", 32), ("module", 64)]
    cases: list[tuple[Run, dict[str, Any]]] = []
    for size in sizes:
        run = uniform_run(place / str(size), base, passages=size)
        for granularity, experts in [narrow, *(wider if size == sizes[0] else ())]:
            cases.append((run, row_of(granularity=granularity, experts=experts)))
    cases.append((quickstart_run(place / "mixed"), {"deepspeed.stage": 1}))
    tasks = [
        Task(str(run.directory), tuple(run.overrides(changed)), steps=3) for run, changed in cases
    ]
    return [
        traffic_of(run, list(task.overrides), ranks)
        for (run, _), task, ranks in zip(cases, tasks, train_group(tasks, workers=2), strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())

"""Where a training step's time goes, and what share of it the device waits.

    python benchmarks/step_profile.py [--quick] [--json FILE] [--config NAME] [--set KEY=VALUE ...]
                                 [--steps N] [--trace FILE]

Trains on the quickstart's first passages in this process, a group of one, and looks at some steps
after the first ones: by torch's profiler, what kind of operation took how long, and by the clock,
which part of a step. What no operation accounts for is the host's: Python, launches, and waiting.
The profiler itself takes time, which is in both. --trace writes one step for chrome://tracing.
"""

import argparse
import os
import pkgutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch
from torch.profiler import ProfilerActivity, profile

from harness.examples import PASSAGES, ROOT
from harness.plain_workers import encode_here
from harness.reporting import Goal, finish, options, show

WARM_UP = 3  # steps
KINDS = {  # by the beginnings of operations' names
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("aten::_scaled_dot", "aten::_flash", "aten::_efficient", "torch_attn"),
    "copies, gathers, zeros": (
        *("aten::copy_", "aten::cat", "aten::fill_", "aten::index", "aten::_index", "aten::gather"),
        *("aten::embedding", "aten::clone", "aten::scatter", "aten::zero_"),
    ),
    "communication": ("c10d::", "gloo:", "nccl:"),
}
OPERATIONS = ("aten::", "c10d::", "gloo:", "torch_attn")  # what else has a name only calls these
PARTS = {  # of a step, by what is called
    "data: the stream": "cluster.training.step._read",
    "rows: gather": "cluster.training.step._gather",
    "batches: made": "polyprag.method.training_batch.Batcher.join",
    "forward": "cluster.parallel.engine.ExpertEngine.loss_sum",
    "backward": "cluster.parallel.engine.ExpertEngine.backward",
    "experts: reduce, Adam": "cluster.parallel.engine.ExpertEngine.step",
    "rows: Adam": "sharding.rows.table.RowTable.update",
}


def main() -> int:
    """Runs the benchmark."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--config", default="quickstart", metavar="NAME", help="[quickstart]")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="such as train.packing=false"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="that are looked at  [8]")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="of one step, as JSON")
    args = parser.parse_args()
    args.steps = args.steps or (3 if args.quick else 8)
    trace = args.trace.resolve() if args.trace else None
    os.chdir(ROOT)  # the model's path is relative to it
    with tempfile.TemporaryDirectory(prefix="profile-") as directory:
        found = look(Path(directory), args, trace)
    show(
        f"one of {args.steps} steps: {found['seconds'] * 1000:.1f} ms, {found['tokens']:,.0f} "
        f"tokens, MFU {found['mfu']:.0%}",
        ("operations", "ms", "share"),
        [(kind, s * 1000, f"{s / found['seconds']:.0%}") for kind, s in found["kinds"].items()],
    )
    show(
        "by the clock",
        ("part", "ms", "share"),
        [(part, s * 1000, f"{s / found['seconds']:.0%}") for part, s in found["parts"].items()],
    )
    idle = found["kinds"]["the host"] / found["seconds"]
    finish(
        found, [Goal("share of a step without an operation", idle, "<= .2", idle <= 0.2)], args.json
    )
    return 0


def look(directory: Path, args: argparse.Namespace, trace: Path | None) -> dict[str, Any]:
    """Trains, and returns the means of the steps that were looked at, in seconds."""
    from cluster.training import loop
    from polyprag.augment.corpus import augment_corpus
    from polyprag.config.files import load_config
    from sharding.ingest.prepare import prepare

    changed = ["cluster.workers=1", "train.epochs=1", *args.set]
    config = load_config([args.config], changed)
    lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)
    source, run = directory / "passages.jsonl", directory / "run"
    source.write_text("".join(lines[:240]), encoding="utf-8")
    prepare([str(source)], run / "corpus", partition_size=config.data.partition_size)
    augment_corpus(run, config)
    watch = Watch(warm_up=WARM_UP, steps=args.steps, trace=trace)
    with patch.object(loop, "train_step", watch.wrapped(loop.train_step)), watch.parts():
        try:
            encode_here(run, config)
        except Enough:
            return watch.means()
    raise SystemExit(f"the corpus has fewer than {WARM_UP + args.steps} steps; take fewer --steps")


class Enough(Exception):  # noqa: N818  (it isn't an error)
    """All steps were looked at."""


class Watch:
    """Profiles steps after the first ones."""

    def __init__(self, *, warm_up: int, steps: int, trace: Path | None) -> None:
        """Takes how many steps are left out, how many are looked at, and where one is written."""
        self._left, self._steps, self._trace = warm_up, steps, trace
        self._kinds: dict[str, float] = defaultdict(float)
        self._parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._whole: dict[str, float] = defaultdict(float)
        self._seen = 0
        self._is_on = False

    def wrapped(self, train_step: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a step that is looked at when it is its turn."""

        def step(*args: Any, **kwargs: Any) -> Any:
            if self._left:
                self._left -= 1
                return train_step(*args, **kwargs)
            if self._seen == self._steps:
                raise Enough
            return self._profiled(train_step, args, kwargs)

        return step

    def _profiled(self, train_step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._is_on = True
        with profile(activities=activities) as seen:
            started = time.perf_counter()
            result = train_step(*args, **kwargs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        self._is_on = False
        if self._trace is not None and not self._seen:
            seen.export_chrome_trace(str(self._trace))
        self._seen += 1
        metrics = result[0]
        self._whole["seconds"] += seconds
        self._whole["tokens"] += metrics.tokens
        self._whole["mfu"] += metrics.mfu
        busy = 0.0
        on_device = torch.cuda.is_available()
        for event in seen.key_averages():
            own = (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6
            if (
                event.key.startswith(("aten::", "c10d::", "gloo:", "nccl:", "torch_attn"))
                or on_device
            ):
                kind = next(
                    (name for name, starts in KINDS.items() if event.key.startswith(starts)),
                    "everything element by element",
                )
                self._kinds[kind] += own
                busy += own
        self._kinds["the host"] += seconds - busy
        return result

    @contextmanager
    def parts(self) -> Iterator[None]:
        """Clocks the parts of the steps that are looked at."""
        with ExitStack() as stack:
            for name, path in PARTS.items():
                stack.enter_context(_patched(path, self._clocked(name)))
            yield

    def _clocked(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def around(call: Callable[..., Any]) -> Callable[..., Any]:
            def clocked(*args: Any, **kwargs: Any) -> Any:
                started = time.perf_counter()
                try:
                    return call(*args, **kwargs)
                finally:
                    if self._is_on:
                        self._parts[name] += time.perf_counter() - started

            return clocked

        return around

    def means(self) -> dict[str, Any]:
        """Returns the mean of each over the steps; kinds and parts most first."""

        def mean(of: dict[str, float]) -> dict[str, float]:
            return {name: value / self._seen for name, value in of.items()}

        kinds, parts = mean(self._kinds), mean(self._parts)
        parts["the rest"] = self._whole["seconds"] / self._seen - sum(parts.values())
        return {
            **mean(self._whole),
            "kinds": dict(sorted(kinds.items(), key=lambda each: -each[1])),
            "parts": dict(sorted(parts.items(), key=lambda each: -each[1])),
        }


@contextmanager
def _patched(
    path: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Replaces what a dotted path leads to."""

    owner_path, _, name = path.rpartition(".")
    owner = pkgutil.resolve_name(owner_path)
    with patch.object(owner, name, around(getattr(owner, name))):
        yield


if __name__ == "__main__":
    sys.exit(main())

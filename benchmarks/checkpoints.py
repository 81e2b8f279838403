"""How long training stands still for checkpoints, written behind it or waited for.

    python benchmarks/checkpoints.py [--quick] [--json FILE]

Encodes passages of examples/popqa with the quickstart's settings in one process, for one
checkpoint interval and a little more, in turns: checkpoints written by threads (as `encode` does),
and the same files waited for (as is usual). Each on this machine's disk and on one that takes
20 MB/s (every file of the checkpoint waits for its bytes), as a shared file system may. How long
training stands still is from the run's own metrics.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harness.examples import PASSAGES, ROOT
from harness.plain_workers import encode_here
from harness.reporting import Goal, finish, options, show
from polyprag.augment.corpus import augment_corpus
from polyprag.config import CheckpointConfig, Config
from polyprag.config.files import load_config
from sharding.ingest.prepare import prepare

SLOW_BYTES_PER_SECOND = 20e6


def slowed(save: Callable[..., Any], num_bytes: Callable[[Any], int]) -> Callable[..., Any]:
    """The same on a disk of 20 MB/s."""

    def slow(*args: Any, **kwargs: Any) -> Any:
        saved = save(*args, **kwargs)
        time.sleep(num_bytes(saved) / SLOW_BYTES_PER_SECOND)
        return saved

    return slow


def train(run: Path, config: Config, *, wait: bool, slow: bool) -> dict[str, float]:
    """Trains a run; the shares of its wall time in which training stood still."""
    import cluster.checkpoints.files as files
    import cluster.checkpoints.writer as checkpoint
    import cluster.training.loop as training

    class Waiting(checkpoint.Checkpointer):
        def begin(self, step: int, cursor: Any) -> None:
            super().begin(step, cursor)
            started = time.monotonic()
            self._complete()
            self._raise_of(self._manifest)
            self._waited += time.monotonic() - started

    with ExitStack() as stack:
        if wait:
            stack.enter_context(patch.object(training, "Checkpointer", Waiting))
        if slow:
            for module, name, size in (
                (files, "save_rows", lambda saved: saved[1]),
                (checkpoint, "_save_experts", lambda saved: saved.num_bytes),
            ):
                changed = slowed(getattr(module, name), size)
                stack.enter_context(patch.object(module, name, changed))
        encode_here(run, config)
    lines = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    # The checkpoint after the last step has nothing to be written behind.
    stood = sum(step["checkpoint_wait"] for step in steps)
    wall = sum(step["seconds"] for step in steps) + stood
    return {
        "stall": stood / wall,
        "rows_stall": sum(step["rows_wait"] for step in steps) / wall,
        "seconds": wall,
        "checkpoints": float((len(steps) - 1) // config.checkpoint.every_steps),
    }


def main() -> None:
    """Runs the benchmark."""
    args = options(__doc__.splitlines()[0]).parse_args()
    os.chdir(ROOT)  # the model's path is relative to it
    interval = 40 if args.quick else CheckpointConfig().every_steps
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "passages.jsonl"
        lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)
        source.write_text("".join(lines[: 120 if args.quick else 915]), encoding="utf-8")
        config = load_config(["quickstart"])
        if args.quick:
            config = replace(config, data=replace(config.data, microbatch=4))
        prepared = Path(temporary) / "prepared"
        manifest = prepare([str(source)], prepared / "corpus", partition_size=64)
        augment_corpus(prepared, config)
        for slow in (False, True):
            for wait in (False, True):
                run = Path(temporary) / f"run-{slow}-{wait}"
                run.mkdir()
                (run / "corpus").symlink_to(prepared / "corpus")
                changed = trained_for(run, config, interval)
                name = f"{'20 MB/s' if slow else 'this disk'}, {'waited for' if wait else 'behind'}"
                results[name] = train(run, changed, wait=wait, slow=slow)
    show(
        f"{manifest.num_passages} passages, a checkpoint every {interval} steps",
        ("checkpoints", "stands still", "waits for rows", "seconds", "number"),
        [
            (name, f"{r['stall']:.2%}", f"{r['rows_stall']:.2%}", r["seconds"], r["checkpoints"])
            for name, r in results.items()
        ],
    )
    stall = results["this disk, behind"]["stall"] + results["this disk, behind"]["rows_stall"]
    slow_stall = results["20 MB/s, behind"]["stall"] + results["20 MB/s, behind"]["rows_stall"]
    goals = [
        Goal("share of wall time that training stands still", stall, "< 0.02", stall < 0.02),
        Goal("the same on a disk of 20 MB/s", slow_stall, "< 0.02", slow_stall < 0.02),
    ]
    finish({"interval": interval, "shares": results}, goals, args.json)


def trained_for(run: Path, config: Config, interval: int) -> Config:
    """The config with so many epochs that one interval ends in the midst of training."""
    from cluster.plan.encode_plan import plan_encoding
    from sharding.corpus.manifest import CorpusManifest

    manifest = CorpusManifest.load(run / "corpus")
    plan = plan_encoding(manifest, config, corpus_url="corpus")
    epochs = -(-(interval + interval // 10) // plan.steps_per_epoch)
    return replace(
        config,
        train=replace(config.train, epochs=epochs),
        checkpoint=replace(config.checkpoint, every_steps=interval),
    )


if __name__ == "__main__":
    main()

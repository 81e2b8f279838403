"""A training in a process group of this machine: its losses, or its whole encoding."""

import json
import multiprocessing
import os
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

from harness.plain_workers import free_port, join_group
from worker_counts.recipes import Recipe

_PRELOADED = ["torch", "transformers", "deepspeed", "numba", "cluster.training.train_encoding"]


def train(run: Path, recipe: Recipe, *, workers: int, steps: int | None = None) -> list[float]:
    """Trains a prepared run, over gloo, one thread a worker.

    Args:
        run: prepared and augmented, with its config saved.
        recipe: how.
        workers: in the group.
        steps: of which to stop after; all by default.

    Returns:
        The loss of every step.
    """
    os.environ["DS_ACCELERATOR"] = "cpu"
    multiprocessing.set_forkserver_preload(_PRELOADED)
    from torch import multiprocessing as torch_processes

    torch_processes.start_processes(
        _worker,
        (workers, free_port(), str(run), recipe, steps),
        nprocs=workers,
        start_method="forkserver",
    )
    lines = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def _worker(
    rank: int, workers: int, port: int, run: str, recipe: Recipe, steps: int | None
) -> None:
    import logging

    from cluster.checkpoints.request import TrainingRequest
    from cluster.training import rows, start
    from cluster.training.train_encoding import train_encoding
    from polyprag.config.files import load_config
    from polyprag.method.rows.optimizer import RowAdam

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    join_group(rank, workers, port)

    class Engine(start.ExpertEngine):
        def step(self, *, rate: float) -> bool:
            for group in self._engine.optimizer.param_groups:
                group["eps"] = recipe.epsilon
            return super().step(rate=rate)

    def adam(**settings: float | tuple[float, float]) -> RowAdam:
        return RowAdam(**settings, eps=recipe.epsilon)  # type: ignore[arg-type]

    left = iter([TrainingRequest.NONE] * ((steps or sys.maxsize) - 1) if steps else [])
    asked = (lambda: next(left, TrainingRequest.STOP)) if steps else (lambda: TrainingRequest.NONE)
    with patch.object(start, "ExpertEngine", Engine), patch.object(rows, "RowAdam", adam):
        train_encoding(run, load_config([], recipe.changed, run), asked=asked)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

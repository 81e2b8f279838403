"""Real training steps in process groups of this machine, measured on every worker.

The workers run `cluster.training.train_encoding` as Ray's would, over gloo, one thread each;
they stop after so many steps. They are forked from a process that has everything imported, so that
a group begins in a second.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, process_time
from typing import Any
from unittest.mock import patch

from harness.plain_workers import free_port, join_group
from scaling.trace import Call, socket_bytes, traced

PRELOADED = [
    "torch",
    "transformers",
    "deepspeed",
    "numba",
    "cluster.training.train_encoding",
    "scaling.trace",
]


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A global step on one worker.

    Attributes:
        begin: on the machine's monotonic clock.
        end: on the same.
        cpu: processor seconds of the worker, all its threads.
        sent: bytes on this worker's connections.
        received: the same.
        calls: its collectives.
        padded: tokens of each of this worker's physical batches, padding included.
        batches: physical batches, those without examples included.
        tokens: in the global batch, padding excluded.
        data_wait: of the slowest worker, seconds.
        rows_wait: the same.
    """

    begin: float
    end: float
    cpu: float
    sent: int
    received: int
    calls: tuple[Call, ...]
    padded: tuple[int, ...]
    batches: int
    tokens: int
    data_wait: float
    rows_wait: float


Ranks = list[list[StepRecord]]  # the same steps on each worker, by rank


class _EnoughError(Exception):
    """Ends training after the steps that are wanted."""


@dataclass(frozen=True, slots=True)
class Task:
    """Steps of a run to be measured.

    Attributes:
        run: prepared and augmented.
        overrides: settings, as `section.key=value`.
        steps: measured ones; the run must have as many, besides those to warm up.
        warm_up: steps before.
    """

    run: str
    overrides: tuple[str, ...]
    steps: int
    warm_up: int = 2


def train_group(tasks: Sequence[Task], *, workers: int) -> list[Ranks]:
    """Trains one task after the other in one process group, and throws the results away.

    Returns:
        The measured steps of each task.
    """
    os.environ["DS_ACCELERATOR"] = "cpu"
    binaries = str(Path(sys.executable).parent)  # DeepSpeed looks for ninja
    if binaries not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = binaries + os.pathsep + os.environ["PATH"]
    multiprocessing.set_forkserver_preload(PRELOADED)
    from torch import multiprocessing as torch_processes

    with tempfile.TemporaryDirectory() as out:
        torch_processes.start_processes(
            _worker,
            (workers, free_port(), list(tasks), out),
            nprocs=workers,
            start_method="forkserver",
        )
        return [
            [_records(Path(out, f"{number}-{rank}.json")) for rank in range(workers)]
            for number in range(len(tasks))
        ]


def _records(file: Path) -> list[StepRecord]:
    records = []
    for values in json.loads(file.read_text()):
        calls = tuple(Call(**call) for call in values["calls"])
        padded = tuple(values["padded"])
        records.append(StepRecord(**values | {"calls": calls, "padded": padded}))
    return records


def _worker(rank: int, workers: int, port: int, tasks: list[Task], out: str) -> None:
    import logging

    from torch import distributed

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    join_group(rank, workers, port)
    calls: list[Call] = []
    with traced(calls):  # around all tasks: DeepSpeed keeps the functions that it finds first
        for number, task in enumerate(tasks):
            # The checkpoints and logs of a measurement aren't the run's.
            place = Path(out, f"run-{number}")
            if rank == 0:
                place.mkdir()
                (place / "corpus").symlink_to(Path(task.run, "corpus").resolve())
            distributed.barrier()
            records = _train(str(place), task, calls)
            told = [asdict(record) for record in records[task.warm_up :]]
            Path(out, f"{number}-{rank}.json").write_text(json.dumps(told))
    distributed.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _train(run: str, task: Task, calls: list[Call]) -> list[StepRecord]:
    import cluster.training.loop
    from cluster.training.train_encoding import train_encoding
    from polyprag.config.files import load_config
    from polyprag.method.training_batch import Batcher

    real_step, real_join = cluster.training.loop.train_step, Batcher.join
    steps = task.warm_up + task.steps
    records: list[StepRecord] = []
    padded: list[int] = []

    def join(batcher: Batcher, examples: list[Any]) -> Any:
        made = real_join(batcher, examples)
        padded.append(made.input_ids.numel() if examples else 0)
        return made

    def step(*args: Any, **kwargs: Any) -> Any:
        if len(records) == steps:
            raise _EnoughError
        calls.clear()
        padded.clear()
        before, used, begin = socket_bytes(), process_time(), monotonic()
        metrics, request = real_step(*args, **kwargs)
        end, cpu, after = monotonic(), process_time() - used, socket_bytes()
        records.append(
            StepRecord(
                begin=begin,
                end=end,
                cpu=cpu,
                sent=after[0] - before[0],
                received=after[1] - before[1],
                calls=tuple(calls),
                padded=tuple(tokens for tokens in padded if tokens),
                batches=len(padded),
                tokens=metrics.tokens,
                data_wait=metrics.data_wait,
                rows_wait=metrics.rows_wait,
            )
        )
        return metrics, request

    with ExitStack() as stack:
        stack.enter_context(patch.object(cluster.training.loop, "train_step", step))
        stack.enter_context(patch.object(Batcher, "join", join))
        try:
            train_encoding(run, load_config([], list(task.overrides)))
        except _EnoughError:
            return records
    raise RuntimeError(f"{run}: training ended before {steps} steps")

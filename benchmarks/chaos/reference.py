"""The training that chaos.py compares with: plain processes, without Ray and without faults.

python -m chaos.reference RUN WORKERS KEY=VALUE ...
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch.multiprocessing as mp
from torch import distributed

from cluster.training.train_encoding import train_encoding
from harness.plain_workers import free_port, join_group
from harness.processes import run_module
from polyprag.config.files import load_config


def train_without_faults(run: Path, settings: Sequence[str], *, workers: int) -> None:
    """Trains a prepared run to its end, in processes that all have ended then.

    Args:
        run: the run.
        settings: `key=value` each.
        workers: processes, of one thread each.
    """
    run_module("chaos.reference", str(run), str(workers), *settings).check_returncode()


def main() -> None:
    """Trains what the command line says."""
    run, workers, *settings = sys.argv[1:]
    os.environ["DS_ACCELERATOR"] = "cpu"  # which DeepSpeed reads when it is imported
    import deepspeed  # noqa: F401 - once: workers that are forked have what this process has

    arguments = (int(workers), free_port(), run, settings)
    mp.start_processes(_train, arguments, nprocs=int(workers), start_method="fork")


def _train(rank: int, workers: int, port: int, run: str, settings: list[str]) -> None:
    join_group(rank, workers, port)
    train_encoding(run, load_config([], settings))
    distributed.destroy_process_group()
    os._exit(0)


if __name__ == "__main__":
    main()

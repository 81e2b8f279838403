"""Workers as plain processes of one machine, for the benchmarks that train without Ray."""

import os
import socket
import time
from pathlib import Path

from polyprag.config import Config


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def join_group(rank: int, workers: int, port: int) -> None:
    """Makes this process a worker of one thread in a gloo group.

    Args:
        rank: of this worker.
        workers: in the group.
        port: where worker 0 listens.
    """
    import torch
    from torch import distributed

    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(workers),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        DS_ACCELERATOR="cpu",
    )
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=workers)


def encode_here(run: Path, config: Config, *, first_step: int = 0, first_epoch: int = 0) -> float:
    """Trains a phase in this process, a process group of one; returns the seconds."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    from torch import distributed

    from cluster.training.train_encoding import train_encoding

    if not distributed.is_initialized():  # it stays: DeepSpeed can't be given a second one
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
        address = f"tcp://127.0.0.1:{free_port()}"
        distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    started = time.monotonic()
    train_encoding(str(run), config, first_step=first_step, first_epoch=first_epoch)
    return time.monotonic() - started

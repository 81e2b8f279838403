"""Workers as plain processes of one machine, for the benchmarks that train without Ray."""

import os
import socket


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

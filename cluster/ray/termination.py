"""SIGTERM to a command that trains: a checkpoint first, and then the end."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.checkpoints.request import TrainingRequest, request_checkpoint
from polyprag.errors import PolypragError
from polyprag.sigterm import on_sigterm

_LOG = logging.getLogger(__name__)
_ECHO_S = 5.0  # Ray's job server signals each process, whose parent passes the signal on, too


@contextmanager
def checkpoint_on_sigterm(
    run_dir: str, *, lease: int | None, grace_s: float
) -> Iterator[threading.Event]:
    """Makes SIGTERM stop the training at a checkpoint.

    Where that isn't made in time, and at a second SIGTERM, the process ends itself as by Ctrl-C.

    Args:
        run_dir: whose workers train.
        lease: the number of the lease under which they do.
        grace_s: seconds for the checkpoint.

    Yields:
        An event that is set once a SIGTERM has come.
    """
    told = threading.Event()
    first = 0.0

    def stop() -> None:
        try:
            step = request_checkpoint(
                run_dir, TrainingRequest.STOP, by="SIGTERM", lease=lease, timeout_s=grace_s
            )
        except (PolypragError, OSError) as error:
            _LOG.warning("%s", error)
            step = None
        if step is None:
            os.kill(os.getpid(), signal.SIGINT)

    def handle() -> None:
        nonlocal first
        if not told.is_set():
            told.set()
            first = time.monotonic()
            threading.Thread(target=stop, name="sigterm", daemon=True).start()
        elif time.monotonic() - first > _ECHO_S:
            os.kill(os.getpid(), signal.SIGINT)

    with on_sigterm(handle):
        yield told

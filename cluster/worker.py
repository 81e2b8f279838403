"""What Ray Train runs on every worker."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster.events import record
from cluster.watchdog import Watchdog, end_stalled_worker
from polyprag.config import Config
from polyprag.errors import CorpusError, PolypragError
from sharding.files import join
from sharding.remote import upload
from sharding.urls import local_path

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """A worker's whole task; see `train_encoding`."""

    run_dir: str
    config: Config
    first_step: int
    first_epoch: int
    lease: int | None


def train_on_worker(settings: dict[str, Any]) -> None:
    """Trains, and reports to the driver how it ended.

    A user's error is reported rather than raised: to start the workers again would not mend it.

    Args:
        settings: {"task": WorkerTask}.
    """
    import ray.train

    from cluster.training import train_encoding

    task: WorkerTask = settings["task"]
    rank = ray.train.get_context().get_world_rank()
    node = ray.get_runtime_context().get_node_id()
    stalled = partial(
        end_stalled_worker, tell=lambda text: record(task.run_dir, "failed", rank=rank, detail=text)
    )
    with (
        _log_to_file(task.run_dir, rank),
        Watchdog(task.config.cluster.stall_seconds, stalled) as watchdog,
    ):
        _LOG.info("worker %d runs on %s, Ray node %s", rank, socket.gethostname(), node)
        try:
            step = train_encoding(
                task.run_dir,
                task.config,
                first_step=task.first_step,
                first_epoch=task.first_epoch,
                lease=task.lease,
                beat=watchdog.beat,
            )
            outcome: dict[str, Any] = {"step": step}
        except PolypragError as error:
            outcome = {"error": str(error)}
        except Exception as error:
            _LOG.exception("worker %d failed", rank)
            record(task.run_dir, "failed", rank=rank, detail=f"{type(error).__name__}: {error}")
            raise
    ray.train.report(outcome)


@contextmanager
def _log_to_file(run_dir: str, rank: int) -> Iterator[None]:
    """Sends this process's log to `RUN/logs/worker-RANK.log`.

    An object store can't append, so there each start of a worker has a file of its own, which is
    uploaded when the block ends; a worker that is killed leaves none.
    """
    path = local_path(join(run_dir, "logs", f"worker-{rank}.log"))
    with ExitStack() as stack:
        if path is None:
            started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            url = join(run_dir, "logs", f"worker-{rank}-{started}.log")
            path = join(stack.enter_context(TemporaryDirectory(prefix="polyprag-")), "worker.log")
            stack.callback(_try_upload, path, url)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
        stack.callback(handler.close)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        stack.callback(logging.getLogger().removeHandler, handler)
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("cluster").setLevel(logging.INFO)
        yield


def _try_upload(path: str, url: str) -> None:
    """Uploads a log; a storage that fails mustn't hide what the log is about."""
    try:
        upload(path, url)
    except CorpusError as error:
        _LOG.warning("%s", error)

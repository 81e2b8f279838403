"""What Ray Train runs on every worker."""

import logging
import math
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster.checkpoints.request import TrainingRequest
from cluster.parallel.failures import exit_status_of, told
from cluster.ray.watchdog import Watchdog, end_stalled_worker
from cluster.record.events import groups_of_workers, read_events, record
from cluster.record.log_format import Origin, log_formatter
from cluster.record.run_id import run_id_of
from cluster.record.sinks.prometheus import PrometheusSink
from polyprag.config import Config
from polyprag.errors import NO_OTHER_TRY, FileError, PolypragError, WorkerBugError
from sharding.storage.files import join, upload
from sharding.storage.local import open_append
from sharding.storage.urls import local_path

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """A worker's whole task; see `train_encoding`."""

    run_dir: str
    config: Config
    first_step: int
    first_epoch: int
    lease: int | None


def train_on_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains, and tells the driver how it ended.

    Args:
        settings: {"task": WorkerTask}.

    Returns:
        {"step": global steps done, "request": what ended it, a `TrainingRequest`}.

    Raises:
        Exception: whatever went wrong; `controller_hooks` decides whether workers start again.
    """
    import ray.train

    from cluster.training.train_encoding import train_encoding

    task: WorkerTask = settings["task"]
    context = ray.train.get_context()
    rank, run_id = context.get_world_rank(), run_id_of(task.run_dir)
    origin = Origin(rank, context.get_world_size(), run_id, socket.gethostname())
    node = ray.get_runtime_context().get_node_id()
    stalled = partial(
        end_stalled_worker, tell=lambda text: record(task.run_dir, "failed", rank=rank, detail=text)
    )
    with (
        _log_to_file(task.run_dir, rank, log_formatter(task.config.log.format, origin)),
        Watchdog(task.config.cluster.stall_seconds, stalled) as watchdog,
    ):
        _LOG.info("worker %d runs on %s, Ray node %s", rank, origin.host, node)
        try:
            outcome = train_encoding(
                task.run_dir,
                task.config,
                first_step=task.first_step,
                first_epoch=task.first_epoch,
                lease=task.lease,
                beat=watchdog.beat,
                asked=_DrainNotice(task.config.cluster.grace_seconds),
                sinks=[_prometheus(task.run_dir, run_id, rank)],
            )
            return {"step": outcome.step, "request": int(outcome.request)}
        except Exception as error:
            _LOG.exception("worker %d failed", rank)
            record(task.run_dir, "failed", rank=rank, detail=f"{type(error).__name__}: {error}")
            if exit_status_of(error) != NO_OTHER_TRY or isinstance(error, PolypragError):
                raise
            # Not every exception can be sent, and only here is it known where it came up.
            raise WorkerBugError(told(error, rank=rank)) from error


class _DrainNotice:
    """Asks for a checkpoint when the cluster announces that it takes a machine away.

    And for another shortly before it does: training goes on meanwhile.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._seen: set[tuple[str, ...]] = set()

    def __call__(self) -> TrainingRequest:
        try:
            from ray.train.v2._internal.execution.context import get_train_context

            # `ray.train.get_preemption_info` has the workers wait for one another at each call.
            info = get_train_context().preemption_context.preemption_info
        except (ImportError, AttributeError):  # another Ray; the machine's end is a failure then
            return TrainingRequest.NONE
        if info is None:
            return TrainingRequest.NONE
        left_s = info.deadline_ms / 1000 - time.time() if info.deadline_ms else math.inf
        notice = (*info.preempted_node_ids, "now" if left_s < self._grace_s else "later")
        if notice in self._seen:
            return TrainingRequest.NONE
        self._seen.add(notice)
        return TrainingRequest.CHECKPOINT


def _prometheus(run_dir: str, run_id: str, rank: int) -> PrometheusSink:
    restarts = 0
    if rank == 0:
        try:
            restarts = len(groups_of_workers(read_events(run_dir)))  # this one isn't there yet
        except FileError as error:
            _LOG.warning("%s", error)
    return PrometheusSink(run_dir, run_id=run_id, rank=rank, restarts=restarts)


@contextmanager
def _log_to_file(run_dir: str, rank: int, formatter: logging.Formatter) -> Iterator[None]:
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
        stream = open(open_append(path), "a", encoding="utf-8")  # noqa: SIM115 - the stack's
        handler = logging.StreamHandler(stack.enter_context(stream))
        handler.setFormatter(formatter)
        logging.getLogger().addHandler(handler)
        stack.callback(logging.getLogger().removeHandler, handler)
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger("cluster").setLevel(logging.INFO)
        yield


def _try_upload(path: str, url: str) -> None:
    """Uploads a log; a storage that fails mustn't hide what the log is about."""
    try:
        upload(path, url)
    except FileError as error:
        _LOG.warning("%s", error)

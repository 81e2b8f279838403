"""What Ray Train runs on every worker."""

import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyprag.config import Config
from polyprag.errors import PolypragError
from sharding.files import join

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """A worker's whole task."""

    run_dir: str
    config: Config


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
    _log_to_file(task.run_dir, rank)
    node = ray.get_runtime_context().get_node_id()
    _LOG.info("worker %d runs on %s, Ray node %s", rank, socket.gethostname(), node)
    try:
        outcome: dict[str, Any] = {"step": train_encoding(task.run_dir, task.config)}
    except PolypragError as error:
        outcome = {"error": str(error)}
    except Exception:
        logging.exception("worker %d failed", rank)
        raise
    ray.train.report(outcome)


def _log_to_file(run_dir: str, rank: int) -> None:
    """Sends this process's log to `RUN/logs/worker-RANK.log` where RUN is a directory."""
    if "://" in run_dir:
        return
    path = Path(join(run_dir, "logs", f"worker-{rank}.log"))
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("cluster").setLevel(logging.INFO)

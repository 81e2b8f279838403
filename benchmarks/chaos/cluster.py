"""A Ray cluster on this machine, an encode on it, and what kills both; for chaos.py."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil

from harness.examples import ROOT

MARK = "POLYPRAG_CHAOS"  # in the environment of every process that this starts
# What `ray start` on a head should be given: dead nodes are noticed in seconds.
HEALTH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_health_check_timeout_ms": "3000",
}
_OBJECT_STORE = 80 * 2**20
_WORKER = "TrainWorker"  # in the name of a process that trains
_FINAL = (0, 2)  # an encode that is done, or that the user must mend


class Cluster:
    """A head without workers' room and nodes of one worker each, all on this machine."""

    def __init__(self, nodes: int) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self._ray = RayCluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": _OBJECT_STORE,
                "include_dashboard": False,
            },
        )
        self.address: str = self._ray.address
        self.nodes: list[Any] = []
        for _ in range(nodes):
            self.add_node()

    def add_node(self) -> None:
        """One that has room for a worker."""
        node = self._ray.add_node(num_cpus=1, object_store_memory=_OBJECT_STORE)
        self.nodes.append(node)

    def kill_node(self, random: Random) -> None:
        """SIGKILLs a node's raylet; its workers find that out by themselves."""
        node = self.nodes.pop(random.randrange(len(self.nodes)))
        _kill(_raylet(node))
        node.kill_all_processes(check_alive=False, allow_graceful=False)
        self._ray.worker_nodes.discard(node)

    def drain_node(self, random: Random, *, seconds: float) -> None:
        """Announces a node's end as a cloud does that takes it back, and ends it then."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        node = self.nodes.pop(random.randrange(len(self.nodes)))
        GcsClient(address=self.address).drain_node(
            node.node_id,
            autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
            "taken back",
            int((time.time() + seconds) * 1000),
        )
        threading.Timer(seconds, node.kill_all_processes, kwargs={"check_alive": False}).start()
        self._ray.worker_nodes.discard(node)

    def kill_worker(self, random: Random) -> bool:
        """SIGKILLs a process that trains; False where none does now."""
        workers = sorted(self.workers(), key=lambda process: process.pid)
        if workers:
            _kill(random.choice(workers).pid)
        return bool(workers)

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        found = []
        for node in self.nodes:
            with suppress(psutil.NoSuchProcess):
                for process in psutil.Process(_raylet(node)).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        if any(_WORKER in word for word in process.cmdline()):
                            found.append(process)
        return found

    def kill_all(self) -> None:
        """As a power cut: all nodes, the head, and what they run."""
        for process in marked_processes():
            _kill(process.pid)

    def close(self) -> None:
        """Ends all nodes."""
        with suppress(Exception):  # those that were killed can't be ended
            self._ray.shutdown()


def _raylet(node: Any) -> int:
    from ray._private import ray_constants

    pid: int = node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid
    return pid


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def marked_processes() -> list[psutil.Process]:
    """The living processes that this one has started, however deep, but for itself."""
    mark, found = os.environ[MARK], []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if (
                process.pid != os.getpid()
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(MARK) == mark
            ):
                found.append(process)
    return found


@contextmanager
def chaos_environment() -> Iterator[None]:
    """Sets what every process gets that is started in the block."""
    settings = {
        **HEALTH,
        MARK: f"{os.getpid()}-{time.time_ns()}",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "NO_COLOR": "1",
    }
    before = dict(os.environ)
    os.environ.update(settings)
    os.environ.pop("RAY_ADDRESS", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class Encode:
    """`polyprag encode` of a run on a cluster, started again whenever it dies."""

    run: str
    settings: Sequence[str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    statuses: list[int] = field(default_factory=list)

    def start(self, address: str) -> None:
        """Starts it, or starts it again."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "polyprag", "encode", self.run),
                    *(*self.settings, f"cluster.address={address}"),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        if self.process is None:
            return None
        status = self.process.poll()
        if status is not None:
            self.statuses.append(status)
            self.process = None
        return status

    def is_done(self, address: str) -> bool:
        """Whether it has ended for good; one that has died is started again."""
        status = self.ended()
        if status is None:
            return False
        if status in _FINAL:
            return True
        self.start(address)
        return False

    def kill(self) -> None:
        """SIGKILLs it."""
        if self.process is not None:
            _kill(self.process.pid)

    def said(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")


def last_step(run: Path) -> int:
    """The newest step in a run's metrics; 0 before the first."""
    file = run / "logs" / "metrics.jsonl"
    if not file.exists():
        return 0
    lines = file.read_bytes()[-2048:].split(b"\n")
    return int(json.loads(lines[-2])["step"]) if len(lines) > 1 and lines[-2][:1] == b"{" else 0

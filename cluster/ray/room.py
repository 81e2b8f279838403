"""Whether a Ray cluster has room for what is asked of it: machines that are there, or may join."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.ray.session import cluster_nodes
from polyprag.config import ClusterConfig, cluster_address

_NODE_GROUP = "ray.io/node-group"  # the label of a node that an autoscaler or operator has started
_AUTOSCALER_STATUS = b"__autoscaling_status"  # where Ray's autoscaler writes what it manages
_STATES = ("active_nodes", "idle_nodes", "pending_launches")  # numbers by kind of node
_UNMANAGED = "node_"  # the kinds of nodes, there, of a cluster that has no config to start any


@dataclass(frozen=True, slots=True)
class Demand:
    """Equal pieces of work that need room at the same time, each of them on one machine.

    Attributes:
        what: a piece is, such as "worker".
        number: of pieces.
        cpus: of each.
        gpus: of each; 0.5 for half of one.
        keys: the settings that ask for it, for messages.
    """

    what: str
    number: int
    cpus: float
    gpus: float = 0.0
    keys: str = ""

    def room_on(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """Counts the pieces for which machines with such resources have room.

        Args:
            nodes: each machine's resources by name, as Ray gives them.
        """
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return sum(
            min(
                math.floor(node.get(name, 0.0) / each + 1e-6)
                for name, each in wanted.items()
                if each
            )
            for node in nodes
        )

    def __str__(self) -> str:
        keys = f" ({self.keys})" if self.keys else ""
        each = " each" if self.number > 1 else ""
        amounts = amounts_text(self.cpus, self.gpus or None)
        return f"{_count(self.number, self.what)} with {amounts}{each}{keys}"


def workers_demand(config: ClusterConfig) -> Demand:
    """Returns what training can't begin without."""
    number = "workers" if config.min_workers is None else "min_workers"
    keys = [f"cluster.{number}={getattr(config, number)}"]
    keys.append(f"cluster.cpus_per_worker={config.cpus_per_worker}")
    if config.gpus_per_worker:
        keys.append(f"cluster.gpus_per_worker={config.gpus_per_worker:g}")
    return Demand(
        "worker",
        getattr(config, number),
        cpus=config.cpus_per_worker,
        gpus=config.gpus_per_worker,
        keys=", ".join(keys),
    )


def living_resources() -> list[Mapping[str, float]]:
    """Returns what each living machine of the cluster has, in use or not."""
    return [node["Resources"] for node in cluster_nodes() if node["Alive"]]


def lack_of(demand: Demand) -> str | None:
    """Returns what was asked for beside what is there; None where that is enough."""
    nodes = living_resources()
    room = demand.room_on(nodes)
    if room >= demand.number:
        return None
    cpus, gpus = (sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    return (
        f"asked for {demand}; the Ray cluster has room for {room or 'none'}: it has "
        f"{amounts_text(cpus, gpus)} on {_count(len(nodes), 'machine')}"
    )


def longest_wait(config: ClusterConfig) -> float:
    """Returns for how many seconds it makes sense to wait for further machines.

    For ever where somebody starts them or `cluster.min_workers` says that they come and go, not at
    all where nothing says so; and else what `cluster.wait_seconds` says.
    """
    if config.wait_seconds is not None:
        return config.wait_seconds
    if cluster_address(config) is None:  # nobody joins a Ray that is there for one command
        return 0.0
    return math.inf if config.min_workers is not None or _is_managed() else 0.0


def remedy(config: ClusterConfig) -> str:
    """Returns what to do where the cluster lacks something."""
    if cluster_address(config) is None:
        return "ask for no more than there is, or join a cluster that has it (cluster.address)"
    return (
        "ask for no more than there is, add machines, or say with cluster.wait_seconds how long to "
        "wait for machines that join"
    )


def amounts_text(cpus: float, gpus: float | None) -> str:
    """Returns CPUs and GPUs in words; only CPUs where the GPUs are None."""
    return _amount(cpus, "CPU") + (f" and {_amount(gpus, 'GPU')}" if gpus is not None else "")


def _amount(number: float, unit: str) -> str:
    return f"{number:g} {unit}" + "s" * (number > 1) if number else f"no {unit}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


def _is_managed() -> bool:
    """Returns whether somebody starts machines for this cluster: Ray's autoscaler, or KubeRay."""
    if any(_NODE_GROUP in (node.get("Labels") or {}) for node in cluster_nodes()):
        return True
    from ray.experimental.internal_kv import _internal_kv_get

    untyped: Any = _internal_kv_get
    try:
        report = json.loads(untyped(_AUTOSCALER_STATUS) or "{}")["autoscaler_report"]
        kinds = [kind for state in _STATES for kind in report.get(state) or ()]
        # A machine that has said nothing of itself for a while is of no state.
        kinds += (report.get("node_type_mapping") or {}).values()
    except (ValueError, KeyError, TypeError, AttributeError):  # none, or what another Ray writes
        return False
    return any(not str(kind).startswith(_UNMANAGED) for kind in kinds)

"""What is added to Ray Train's controller for when it resizes or restarts its workers.

A running group is resized at a checkpoint; a restart waits until dead nodes are noticed; an error
that a restart won't mend ends the training.

They hang on hooks that aren't in Ray's public interface. A Ray that lacks them trains as well: a
resize then repeats the steps since the last checkpoint, a restart after a node's death waits for
the workers that Ray tries to start on it (60 s), and every error is tried again.
"""

import logging
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.checkpoints.request import TrainingRequest, request_checkpoint
from cluster.parallel.failures import exit_status_of, failure
from cluster.ray.session import cluster_nodes
from polyprag.errors import TRY_AGAIN, PolypragError

_LOG = logging.getLogger(__name__)
_KNOCK_S = 2.0  # for a node's answer
_MOST_KNOCKS = 64  # at once
_NOTICED_S = 30.0  # at most, until Ray notices that a node is dead


def controller_hooks(run_dir: str, *, lease: int | None, grace_s: float) -> list[Any]:
    """Returns the callbacks of a run of Ray Train; none where this Ray has no such hooks.

    Args:
        run_dir: whose workers train.
        lease: the number of the lease under which they do.
        grace_s: seconds for the checkpoint before a resize; without it, steps are repeated.
    """
    try:
        from ray.train.v2._internal.execution.callback import ControllerCallback
        from ray.train.v2._internal.execution.controller.state import ResizingState, RestartingState
    except ImportError:
        return []

    class Hooks(ControllerCallback):
        def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
            if isinstance(current_state, ResizingState):
                size = getattr(current_state.scaling_decision, "num_workers", "other")
                _checkpoint(run_dir, f"Ray, for {size} workers,", lease=lease, grace_s=grace_s)
            elif isinstance(current_state, RestartingState):
                failure = current_state.training_failed_error
                raise_final(getattr(failure, "worker_failures", {}).values())
                wait_for_dead_nodes()

    return [Hooks()]


def _checkpoint(run_dir: str, by: str, *, lease: int | None, grace_s: float) -> None:
    try:
        request_checkpoint(run_dir, TrainingRequest.RESTART, by=by, lease=lease, timeout_s=grace_s)
    except (PolypragError, OSError) as error:
        _LOG.warning("%s", error)


def raise_final(errors: Iterable[Exception]) -> None:
    """Raises the first of the workers' errors that another start of them won't mend, if any.

    Raises:
        PolypragError: says what the worker did.
    """
    for error in errors:
        exit_status = exit_status_of(error)
        if exit_status != TRY_AGAIN:
            raise failure(str(error), exit_status=exit_status)


def wait_for_dead_nodes() -> None:
    """Waits until Ray, too, takes the nodes for dead whose raylet doesn't answer.

    Ray needs some seconds to notice a node's death, and would start workers there meanwhile.
    """
    deadline = time.monotonic() + _NOTICED_S
    silent = _silent(_living())
    waited = bool(silent)
    while silent and time.monotonic() < deadline:
        time.sleep(0.5)
        silent &= {node["NodeID"] for node in _living()}
    if waited:
        _recount()


def _living() -> list[dict[str, Any]]:
    """Returns the nodes that Ray takes for living."""
    return [node for node in cluster_nodes() if node["Alive"]]


def _silent(nodes: list[dict[str, Any]]) -> set[str]:
    """Returns the ids of those nodes whose raylet doesn't answer."""
    with ThreadPoolExecutor(_MOST_KNOCKS) as threads:
        answers = list(threads.map(_answers, nodes))
    return {node["NodeID"] for node, answer in zip(nodes, answers, strict=True) if not answer}


def _answers(node: dict[str, Any]) -> bool:
    address = (node["NodeManagerAddress"], node["NodeManagerPort"])
    try:
        socket.create_connection(address, timeout=_KNOCK_S).close()
    except OSError:
        return False
    return True


def _recount() -> None:
    """Has Ray look at its nodes again before it decides on a number of workers."""
    try:
        import ray
        from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator

        untyped: Any = default_autoscaling_coordinator
        coordinator = untyped.get_or_create_autoscaling_coordinator()
        ray.get(coordinator.get_reserved_resources.remote("polyprag", recompute=True), timeout=10)
    except Exception as error:  # not public, either: it looks by itself every 20 s
        _LOG.info("%s", error)

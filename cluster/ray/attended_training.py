"""Ray Train's run under attention: its waits are told of, and Ctrl-C ends it at once.

Ray's own handler of Ctrl-C asks the controller to end, which doesn't listen while it waits for
room; it then ends after minutes. These are hooks that aren't in Ray's public interface: a Ray that
lacks them is interrupted in its own way.
"""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cluster.ray.room import Demand, lack_of, remedy
from cluster.ray.waiting import Wait, held_by_others
from polyprag.config import ClusterConfig
from polyprag.errors import PolypragError, WorkersFailedError

_LOOK_S = 2.0
_QUIET_S = 6.0  # Ray needs a moment to place workers that there is room for
_ABORT_S = 3.0  # for a controller that listens


def attended(trainer: Any, demand: Demand, config: ClusterConfig) -> Any:
    """Returns a class of trainer of which `fit` is under attention.

    Its `fit` raises `WorkersFailedError`, too: machines were lost, and no others have joined for
    `cluster.wait_seconds`.

    Args:
        trainer: a class of Ray Train's trainers.
        demand: what its workers need.
        config: of the cluster.
    """

    class Attended(trainer):  # type: ignore[misc] # a class that is known at run time
        _controller: Any = None

        def _register_sigint_handler(self, controller: Any) -> None:
            self._controller = controller

        def _create_default_callbacks(self) -> list[Any]:
            # What hands out Ray's own data sets, of which there are none, starts a process for each
            # group of workers, and these wait for it.
            made: list[Any] = super()._create_default_callbacks()
            return [hook for hook in made if type(hook).__name__ != "DatasetsCallback"]

        def fit(self) -> Any:
            with _watched(demand, config, give_up=self._end) as given_up:
                try:
                    return super().fit()
                except KeyboardInterrupt:
                    self._end(within_s=_ABORT_S)
                    raise
                except Exception:
                    for error in given_up:
                        raise error from None
                    raise

        def _end(self, within_s: float = 0.0) -> None:
            """Ends the controller, and with it the workers and their places."""
            import ray
            from ray.exceptions import RayError

            if self._controller is None:
                return
            with contextlib.suppress(RayError):  # it has ended; or it doesn't listen
                if within_s:
                    ray.get(self._controller.abort.remote(), timeout=within_s)
            with contextlib.suppress(RayError):
                ray.kill(self._controller)

    return Attended


@contextmanager
def _watched(
    demand: Demand, config: ClusterConfig, *, give_up: Callable[[], None]
) -> Iterator[list[PolypragError]]:
    """Tells of waits while the block runs.

    Args:
        demand: of the workers.
        config: of the cluster.
        give_up: is called when one has taken longer than `cluster.wait_seconds`.

    Yields:
        A list, into which the reason comes before `give_up` is called.
    """
    stop = threading.Event()
    reasons: list[PolypragError] = []

    def watch() -> None:
        at_most_s = math.inf if config.wait_seconds is None else config.wait_seconds
        machines = Wait(at_most_s=at_most_s, quiet_s=_QUIET_S, remedy=remedy(config))
        turn = Wait(quiet_s=_QUIET_S)
        while not stop.wait(_LOOK_S):
            try:
                if not machines.goes_on(lack_of(demand)):
                    turn.goes_on(held_by_others(demand) if _waits_for_room() else None)
            except PolypragError as error:
                reasons.append(WorkersFailedError(str(error)))
                give_up()
                return
            except Exception:  # the Ray that is asked has gone; the training itself will say so
                return

    thread = threading.Thread(target=watch, name="room", daemon=True)
    thread.start()
    try:
        yield reasons
    finally:
        stop.set()
        thread.join(timeout=_LOOK_S)


def _waits_for_room() -> bool:
    """Returns whether Ray has yet to find places for this driver's workers."""
    import ray
    from ray.util import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    groups: dict[str, dict[str, Any]] = placement_group_table()
    return any(
        group["state"] in ("PENDING", "RESCHEDULING") and group["placement_group_id"].endswith(job)
        for group in groups.values()
    )

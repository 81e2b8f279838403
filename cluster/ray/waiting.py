"""Waits for machines and for room on them, told of while they last: Ray waits without a word."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.ray.room import Demand, amounts_text, lack_of, longest_wait, remedy
from polyprag.config import ClusterConfig
from polyprag.errors import RunError
from polyprag.streams import notice

_LOOK_S = 1.0
_STARTS_S = 15.0  # that a process of Ray's may take to start, once it has its place
_FIRST_S = (0.0, 10.0, 30.0, 60.0)  # when a wait is told of; then every minute


class Wait:
    """A wait that is told of now and then, and ends with an error when it takes too long."""

    def __init__(
        self, *, at_most_s: float = math.inf, quiet_s: float = 0.0, remedy: str = ""
    ) -> None:
        """Makes one that hasn't begun.

        Args:
            at_most_s: seconds that it may take.
            quiet_s: seconds before it is told of.
            remedy: what to do where it takes too long.
        """
        self._at_most_s, self._remedy = at_most_s, remedy
        self._times = [t for t in _FIRST_S if t > quiet_s] if quiet_s else list(_FIRST_S)
        if quiet_s:
            self._times.insert(0, quiet_s)
        self._began: float | None = None
        self._told = 0

    def goes_on(self, lack: str | None, *, now: float | None = None) -> bool:
        """Tells of it if that is due; returns whether something is lacking.

        Args:
            lack: what is waited for; None where nothing is.
            now: by `time.monotonic`.

        Raises:
            RunError: it takes too long.
        """
        now = time.monotonic() if now is None else now
        waited = 0.0 if self._began is None else now - self._began
        if lack is None:
            if self._told:
                notice(f"going on after a wait of {waited:,.0f} s")
            self._began, self._told = None, 0
            return False
        if self._began is None:
            self._began = now
        if waited >= self._at_most_s:
            after = f" after a wait of {waited:,.0f} s" if waited >= 1 else ""
            raise RunError(f"{lack}{after}: {self._remedy}")
        if waited >= self._due():
            while waited >= self._due():
                self._told += 1
            limit = "" if math.isinf(self._at_most_s) else f" of {self._at_most_s:,.0f} s at most"
            notice(f"{lack}: waiting, {waited:,.0f} s{limit} so far; Ctrl-C ends it")
        return True

    def _due(self) -> float:
        beyond = self._told - len(self._times) + 1
        return self._times[self._told] if beyond <= 0 else self._times[-1] + 60.0 * beyond


def await_machines(demand: Demand, config: ClusterConfig) -> None:
    """Waits until the cluster's machines have room for a demand, if they were idle.

    Raises:
        RunError: they have not, and none may join or none has joined in time.
    """
    lack = lack_of(demand)
    if lack is None:
        return
    wait = Wait(at_most_s=longest_wait(config), remedy=remedy(config))
    wait.goes_on(lack)
    with _asked_for(demand):
        while wait.goes_on(lack):
            time.sleep(_LOOK_S)
            lack = lack_of(demand)


@contextmanager
def _asked_for(demand: Demand) -> Iterator[None]:
    """Has a demand wait in Ray's queue, too: an autoscaler starts machines for what is there."""
    from ray.util.placement_group import placement_group, remove_placement_group

    each = {"CPU": demand.cpus} | ({"GPU": demand.gpus} if demand.gpus else {})
    group = placement_group([each] * demand.number)
    try:
        yield
    finally:
        remove_placement_group(group)


def await_turn(references: list[Any], demand: Demand) -> None:
    """Waits until Ray has found room for one of several small tasks, beside the work of others.

    Args:
        references: of the tasks.
        demand: what one of them needs.
    """
    import ray

    wait = Wait(quiet_s=_STARTS_S)
    while not ray.wait(references, timeout=_LOOK_S)[0]:
        wait.goes_on(held_by_others(demand))
    wait.goes_on(None)


def held_by_others(demand: Demand) -> str:
    """Returns that something must wait for others' work, and what that leaves."""
    import ray

    untyped: Any = ray  # that function has no types
    free: dict[str, float] = untyped.available_resources()
    left = amounts_text(free.get("CPU", 0.0), free.get("GPU", 0.0) if demand.gpus else None)
    return f"asked for {demand}; the Ray cluster is at work, with {left} free"

"""What a client's request holds of a server until it ends, and what is counted of it."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

from polyprag.serving.failures import GONE, api_error_of
from polyprag.serving.metrics import Metrics


class Room:
    """Room for some continuations, which is given back once."""

    def __init__(
        self,
        number: int,
        *,
        seconds: float,
        route: str,
        mode: str,
        metrics: Metrics,
        on_leave: Callable[["Room"], None],
    ) -> None:
        """Is taken.

        Args:
            number: of continuations.
            seconds: that the request may take.
            route: for the counters.
            mode: for the counters.
            metrics: which count it when it ends.
            on_leave: gives the room back.
        """
        self.number = number
        self._route, self._mode, self._metrics = route, mode, metrics
        self._on_leave: Callable[[Room], None] | None = on_leave
        self._status = "200"
        self._started = time.perf_counter()
        self._deadline = asyncio.get_running_loop().time() + seconds

    @property
    def seconds(self) -> float:
        """Since it was taken."""
        return time.perf_counter() - self._started

    def timeout(self) -> asyncio.Timeout:
        """Ends what takes longer than the request may."""
        return asyncio.timeout_at(self._deadline)

    def failed_by(self, error: BaseException) -> None:
        """Notes what ended the request; what comes after it is of its making."""
        if self._status != "200":
            return
        is_gone = isinstance(error, asyncio.CancelledError)
        self._status = str(GONE if is_gone else api_error_of(error, quiet=True).status)

    def leave(self, error: BaseException | None = None) -> None:
        """Gives the room back, and counts the request."""
        if self._on_leave is None:
            return
        if error is not None:
            self.failed_by(error)
        on_leave, self._on_leave = self._on_leave, None
        on_leave(self)
        if self._status == str(GONE):
            self._metrics.cancelled.inc()
        self._metrics.requests.labels(self._route, self._mode, self._status).inc()
        self._metrics.duration.labels(self._route).observe(self.seconds)

    def __enter__(self) -> "Room":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave(error)

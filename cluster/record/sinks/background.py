"""A sink that may be slow, fail or hang, such as a server's, behind a thread that tries again.

Training only ever appends to a list. A server that is down costs a warning, and is tried again
every minute with all that it has missed.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from cluster.record.metrics import StepMetrics
from cluster.record.sinks.sink import Sink

_LOG = logging.getLogger(__name__)
_EVERY_S = 1.0
_RETRY_S = 60.0
_CLOSING_S = 10.0
_MAX_STEPS = 100_000  # about 30 MB
_BATCH = 1000


class BackgroundSink:
    """Hands steps on in a thread, in their order."""

    def __init__(
        self,
        name: str,
        open_sink: Callable[[], Sink],
        *,
        every_s: float = _EVERY_S,
        retry_s: float = _RETRY_S,
        closing_s: float = _CLOSING_S,
        max_steps: int = _MAX_STEPS,
    ) -> None:
        """Opens the sink soon, in the thread.

        Args:
            name: for the log.
            open_sink: makes the sink, which leaves out steps that its place has already; called
                anew after each failure.
            every_s: seconds between what is handed on.
            retry_s: seconds after a failure until it is tried again.
            closing_s: seconds that `close` waits at most.
            max_steps: that are kept while it fails; later ones are dropped.
        """
        self._name, self._open = name, open_sink
        self._every_s, self._retry_s, self._closing_s = every_s, retry_s, closing_s
        self._max_steps = max_steps
        self._steps: deque[StepMetrics] = deque()
        self._sink: Sink | None = None
        self._dropped = 0
        self._has_failed = False  # training
        self._is_failing = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def write(self, metrics: StepMetrics) -> None:
        """Keeps a step for the thread."""
        if len(self._steps) < self._max_steps:
            self._steps.append(metrics)
        else:
            self._dropped += 1

    def flush(self) -> None:
        """Does nothing: a checkpoint doesn't wait for a server."""

    def close(self, *, failed: bool = False) -> None:
        """Hands on what is left, but waits only so long for it."""
        self._has_failed = failed
        self._closing.set()
        self._thread.join(timeout=self._closing_s)
        lost = len(self._steps) + self._dropped
        if lost:
            _LOG.warning("%s: %d steps weren't sent; metrics.jsonl has them", self._name, lost)
        elif self._thread.is_alive():
            _LOG.warning("%s: doesn't close; left to itself", self._name)

    def _run(self) -> None:
        while not self._closing.wait(self._retry_s if self._is_failing else self._every_s):
            self._attempt()
        end = time.monotonic() + self._closing_s
        while self._steps and time.monotonic() < end and self._attempt():
            pass
        if self._sink is not None:
            with suppress(Exception):  # it has been told of
                self._sink.close(failed=self._has_failed)

    def _attempt(self) -> bool:
        """Hands a batch on; returns whether that went well."""
        try:
            self._sink = self._sink or self._open()
            batch = list(islice(self._steps, _BATCH))
            for metrics in batch:
                self._sink.write(metrics)
            if batch:
                self._sink.flush()
        except Exception as error:  # whatever it is: metrics aren't worth a run
            self._fail(error)
            return False
        for _ in batch:
            self._steps.popleft()
        if self._is_failing:
            _LOG.info("%s: takes metrics again", self._name)
        self._is_failing = False
        return True

    def _fail(self, error: Exception) -> None:
        if not self._is_failing:
            _LOG.warning(
                "%s takes no metrics (%s: %s); training goes on, and it is tried again every %g s",
                self._name,
                type(error).__name__,
                error,
                self._retry_s,
            )
        self._is_failing = True
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(Exception):
                sink.close(failed=True)

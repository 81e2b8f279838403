"""What takes the metrics of every step, and what keeps training alive when that fails."""

import logging
from collections.abc import Callable
from typing import Protocol

from cluster.record.metrics import StepMetrics

_LOG = logging.getLogger(__name__)


class Sink(Protocol):
    """A place for the steps' metrics."""

    def write(self, metrics: StepMetrics) -> None:
        """Takes a step; a step that comes again after a restart may be left out."""

    def flush(self) -> None:
        """Makes what was written durable; called with every checkpoint."""

    def close(self, *, failed: bool = False) -> None:
        """Takes no more.

        Args:
            failed: whether training was ended by an error.
        """


class Tolerated:
    """A sink whose errors are logged, the first of each row of them, and go no further."""

    def __init__(self, sink: Sink) -> None:
        """Calls it from the same thread."""
        self._sink = sink
        self._is_failing = False

    def write(self, metrics: StepMetrics) -> None:
        """Takes a step."""
        self._attempt(lambda: self._sink.write(metrics))

    def flush(self) -> None:
        """Makes what was written durable."""
        self._attempt(self._sink.flush)

    def close(self, *, failed: bool = False) -> None:
        """Takes no more."""
        self._attempt(lambda: self._sink.close(failed=failed))

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is: metrics aren't worth a run
            if not self._is_failing:
                name = type(self._sink).__name__
                _LOG.warning("%s: metrics are lost (%s: %s)", name, type(error).__name__, error)
            self._is_failing = True
        else:
            self._is_failing = False

"""The record of a run: one line for each global step, each step once, however often it resumed."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import IO, Any, Self

from cluster.record.metrics import METRICS_FILE, StepMetrics, parse_metrics, read_lines
from cluster.record.sinks.sink import Sink, Tolerated
from polyprag.errors import PolypragError
from sharding.storage.files import atomic_write, join
from sharding.storage.urls import local_path

_DAMAGED_FILE = "metrics-damaged.jsonl"
_LOG = logging.getLogger(__name__)


class MetricsLog:
    """Appends to `RUN/logs/metrics.jsonl` and tells the sinks; one worker writes it.

    An object store can't append, so there the file is written anew at each checkpoint.

    Attributes:
        num_repeated: steps that a run that died had done after its last checkpoint, as far as it
            could write them down.
    """

    def __init__(
        self,
        logs_dir: str,
        *,
        resumed_step: int,
        sinks: Sequence[Sink] = (),
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Opens the log, dropping what a run that died wrote after its last checkpoint.

        Lines that aren't of a step are put aside, into `metrics-damaged.jsonl`.

        Args:
            logs_dir: `RUN/logs`.
            resumed_step: the step that training goes on from; 0 at the start.
            sinks: get every step, are flushed and closed with the log, and may fail.
            check: raises where another group of workers writes the log now.
        """
        self._url, self._check = join(logs_dir, METRICS_FILE), check
        steps = {line: _step_of(line) for line in read_lines(self._url)}
        if damaged := [line for line, step in steps.items() if step is None]:
            _put_aside(join(logs_dir, _DAMAGED_FILE), damaged)
        known = {line: step for line, step in steps.items() if step is not None}
        self._lines = [line for line, step in known.items() if step <= resumed_step]
        self.num_repeated = len(known) - len(self._lines)
        self._file: IO[Any] | None = None
        self._rewrite()
        path = local_path(self._url)
        if path is not None:
            self._file = open(path, "ab")  # noqa: SIM115 - lives with the log
        self._sinks = [Tolerated(sink) for sink in sinks]

    def _rewrite(self) -> None:
        with atomic_write(self._url) as file:
            file.writelines(self._lines)

    def write(self, metrics: StepMetrics) -> None:
        """Adds a step."""
        line = json.dumps(asdict(metrics), allow_nan=False).encode() + b"\n"
        if self._file is None:
            self._lines.append(line)
        else:
            self._file.write(line)
            self._file.flush()
        for sink in self._sinks:
            sink.write(metrics)

    def sync(self) -> None:
        """Makes what was written durable; called with every checkpoint."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        elif self._is_ours():
            self._rewrite()
        for sink in self._sinks:
            sink.flush()

    def _is_ours(self) -> bool:
        try:
            self._check()
        except PolypragError as error:  # the next checkpoint raises it on all workers
            _LOG.warning("%s: not written: %s", self._url, error)
            return False
        return True

    def close(self, *, failed: bool = False) -> None:
        """Syncs and closes.

        Args:
            failed: whether training was ended by an error.
        """
        try:
            self.sync()
        finally:
            if self._file is not None:
                self._file.close()
            for sink in self._sinks:
                sink.close(failed=failed)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close(failed=error is not None)


def _step_of(line: bytes) -> int | None:
    """Returns the step that a line is of; None where it isn't of one."""
    try:
        return parse_metrics(line).step
    except ValueError:
        return None


def _put_aside(url: str, lines: list[bytes]) -> None:
    before = read_lines(url)
    with atomic_write(url) as file:
        file.writelines([*before, *lines])
    _LOG.warning("%d lines of the metrics aren't of a step; they are in %s now", len(lines), url)

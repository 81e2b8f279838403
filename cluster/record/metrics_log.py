"""The record of a run: one line for each global step, each step once, however often it resumed."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import IO, Any, Self

from cluster.record.metrics import METRICS_FILE, StepMetrics, read_lines
from cluster.record.sinks.sink import Sink, Tolerated
from sharding.storage.files import atomic_write, join
from sharding.storage.urls import local_path


class MetricsLog:
    """Appends to `RUN/logs/metrics.jsonl` and tells the sinks; one worker writes it.

    An object store can't append, so there the file is written anew at each checkpoint.

    Attributes:
        num_repeated: steps that a run that died had done after its last checkpoint, as far as it
            could write them down.
    """

    def __init__(self, logs_dir: str, *, resumed_step: int, sinks: Sequence[Sink] = ()) -> None:
        """Opens the log, dropping what a run that died wrote after its last checkpoint.

        Args:
            logs_dir: `RUN/logs`.
            resumed_step: the step that training goes on from; 0 at the start.
            sinks: get every step, are flushed and closed with the log, and may fail.
        """
        self._url = join(logs_dir, METRICS_FILE)
        lines = read_lines(self._url)
        self._lines = [line for line in lines if _step_of(line) <= resumed_step]
        self.num_repeated = len(lines) - len(self._lines)
        self._file: IO[Any] | None = None
        self._rewrite()
        path = local_path(self._url)
        if path is not None:
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - lives with the log
        self._sinks = [Tolerated(sink) for sink in sinks]

    def _rewrite(self) -> None:
        with atomic_write(self._url, "w") as file:
            file.writelines(self._lines)

    def write(self, metrics: StepMetrics) -> None:
        """Adds a step."""
        line = json.dumps(asdict(metrics), allow_nan=False) + "\n"
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
        else:
            self._rewrite()
        for sink in self._sinks:
            sink.flush()

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


def _step_of(line: str) -> int:
    return int(json.loads(line)["step"])

"""The record of a run: one line for each global step, each step once, however often it resumed."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from typing import IO, Any

from sharding.files import atomic_write, exists, join, read_bytes, size_of
from sharding.remote import upload
from sharding.urls import local_path

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIRECTORY = "tensorboard"
_LINE_BYTES = 512  # more than any line has


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one global step did.

    Attributes:
        step: from 1; the number of global steps done.
        epoch: from 0.
        loss: mean over the step's tokens, in nats.
        examples: in the global batch.
        tokens: in the global batch, padding excluded.
        seconds: wall time of the step.
        world_size: workers that took part.
        experts_lr: learning rate of the experts.
        rows_lr: learning rate of the routing rows.
        data_wait: seconds of the step in which the slowest worker waited for examples.
        rows_wait: the same for routing rows to be read or written.
        checkpoint_wait: seconds before the step in which training stood still for a checkpoint.
    """

    step: int
    epoch: int
    loss: float
    examples: int
    tokens: int
    seconds: float
    world_size: int
    experts_lr: float
    rows_lr: float
    data_wait: float = 0.0
    rows_wait: float = 0.0
    checkpoint_wait: float = 0.0


class MetricsLog:
    """Appends to `RUN/logs/metrics.jsonl` and TensorBoard; one worker writes it.

    An object store can't append, so there the file is written anew at each checkpoint, and
    TensorBoard's files are written to this machine's disk and uploaded as often.

    Attributes:
        num_repeated: steps that a run that died had done after its last checkpoint, as far as it
            could write them down.
    """

    def __init__(self, logs_dir: str, *, resumed_step: int) -> None:
        """Opens the log, dropping what a run that died wrote after its last checkpoint.

        Args:
            logs_dir: `RUN/logs`.
            resumed_step: the step that training goes on from; 0 at the start.
        """
        self._url = join(logs_dir, METRICS_FILE)
        lines = read_lines(self._url)
        self._lines = [line for line in lines if _step_of(line) <= resumed_step]
        self.num_repeated = len(lines) - len(self._lines)
        self._file: IO[Any] | None = None
        self._events_url = join(logs_dir, TENSORBOARD_DIRECTORY)
        self._local_events: tempfile.TemporaryDirectory[str] | None = None
        self._rewrite()
        path = local_path(self._url)
        if path is not None:
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - lives with the log
            events = local_path(self._events_url)
        else:
            self._local_events = tempfile.TemporaryDirectory(prefix="polyprag-")
            events = self._local_events.name
        self._tensorboard = _tensorboard(events, resumed_step)

    def _rewrite(self) -> None:
        with atomic_write(self._url, "w") as file:
            file.writelines(self._lines)

    def write(self, metrics: StepMetrics) -> None:
        """Adds a step."""
        line = json.dumps(asdict(metrics)) + "\n"
        if self._file is None:
            self._lines.append(line)
        else:
            self._file.write(line)
            self._file.flush()
        for name in ("loss", "experts_lr", "rows_lr"):
            self._tensorboard.add_scalar(name, getattr(metrics, name), metrics.step)
        rate = metrics.tokens / max(metrics.seconds, 1e-9)
        self._tensorboard.add_scalar("tokens_per_second", rate, metrics.step)

    def sync(self) -> None:
        """Makes what was written durable; called with every checkpoint."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            return
        self._rewrite()
        if self._local_events is not None:
            self._tensorboard.flush()
            for name in os.listdir(self._local_events.name):
                upload(join(self._local_events.name, name), join(self._events_url, name))

    def close(self) -> None:
        """Syncs and closes."""
        try:
            self.sync()
        finally:
            if self._file is not None:
                self._file.close()
            self._tensorboard.close()
            if self._local_events is not None:
                self._local_events.cleanup()


def last_metrics(url: str, *, most: int) -> list[StepMetrics]:
    """The last steps of a metrics file, oldest first, however the file came to be.

    Args:
        url: of the file, which may not be there yet.
        most: how many are wanted at most.
    """
    if not exists(url):
        return []
    tail = read_bytes(url, offset=max(0, size_of(url) - most * _LINE_BYTES))
    whole = tail.split(b"\n")[:-1][-most:]  # the line that a tail begins with is cut off, mostly
    return [StepMetrics(**json.loads(line)) for line in whole if line.startswith(b"{")]


def read_lines(url: str) -> list[str]:
    """The whole lines of a metrics file; a last line that was cut off by a crash is left out."""
    if not exists(url):
        return []
    lines = read_bytes(url).decode().splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]


def _step_of(line: str) -> int:
    return int(json.loads(line)["step"])


def _tensorboard(directory: str | None, resumed_step: int) -> Any:
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(directory, purge_step=resumed_step + 1)

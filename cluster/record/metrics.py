"""What is known of each global step, and the lines of a run's metrics file."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated

import msgspec

from polyprag.errors import RunError
from sharding.storage.decoding import convert
from sharding.storage.files import exists, read_bytes, size_of
from sharding.storage.versioned import Natural

METRICS_FILE = "metrics.jsonl"
_LINE_BYTES = 512  # more than any line has
_Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e12)]


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
        rows_wait: the same for routing rows to be read or written. What comes after the workers
            have agreed to update counts in the next step, here and in the bytes below.
        checkpoint_wait: seconds before the step in which training stood still for a checkpoint.
        rows_loaded_bytes: of rows and moments that came into the workers' memory in the step.
        rows_saved_bytes: of rows and moments that went on their way to files.
        checkpoint_step: of the last checkpoint that is durable; 0 where there is none.
        checkpoint_seconds: from its beginning until it was; 0 where another group of workers made
            it.
        mfu: model-FLOP utilisation, of all workers (`cluster.training.utilisation`); 0 where it
            isn't known, as in files of before.
    """

    step: Natural
    epoch: Natural
    loss: float
    examples: Natural
    tokens: Natural
    seconds: _Seconds
    world_size: Natural
    experts_lr: float
    rows_lr: float
    data_wait: _Seconds = 0.0
    rows_wait: _Seconds = 0.0
    checkpoint_wait: _Seconds = 0.0
    rows_loaded_bytes: Natural = 0
    rows_saved_bytes: Natural = 0
    checkpoint_step: Natural = 0
    checkpoint_seconds: _Seconds = 0.0
    mfu: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of the step, over all workers."""
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def examples_per_second(self) -> float:
        """Of the step, over all workers."""
        return self.examples / max(self.seconds, 1e-9)


def scalars(metrics: StepMetrics) -> dict[str, float]:
    """Returns what can be drawn over the steps, by name."""
    values: dict[str, float] = asdict(metrics)
    del values["step"]
    return {**values, "tokens_per_second": metrics.tokens_per_second}


def last_metrics(url: str, *, most: int) -> list[StepMetrics]:
    """Returns the last steps of a metrics file, oldest first, however the file came to be.

    Args:
        url: of the file, which may not be there yet.
        most: how many are wanted at most.

    Raises:
        RunError: a line isn't a step's.
    """
    if not exists(url):
        return []
    tail = read_bytes(url, offset=max(0, size_of(url) - most * _LINE_BYTES))
    whole = tail.split(b"\n")[:-1][-most:]  # the line that a tail begins with is cut off, mostly
    try:
        return [parse_metrics(line) for line in whole if line.startswith(b"{")]
    except ValueError as error:
        raise RunError(f"{url}: not the metrics of a run ({error}); move it away") from error


def parse_metrics(line: str | bytes) -> StepMetrics:
    """Returns a line of a metrics file.

    Raises:
        ValueError: it isn't one; begins with the field where it is JSON.
    """
    try:
        # `msgspec` alone refuses NaN, which the loss of a run that diverges is.
        return convert(json.loads(line), StepMetrics)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_lines(url: str) -> list[bytes]:
    """Returns the whole lines of a metrics file, each with its end.

    A last line that was cut off by a crash is left out.
    """
    if not exists(url):
        return []
    return [line + b"\n" for line in read_bytes(url).split(b"\n")[:-1]]

"""Whether a training learns: its loss by epoch, beside that of the base model alone.

From its second epoch on, a training sees passages again. Where their loss is above the base
model's own by then, what is learnt of one passage is lost to the next: there are too few experts
for the facts, or the experts' rate is too high, and nothing good comes of waiting.
"""

from dataclasses import dataclass

from cluster.record.metrics import StepMetrics, parse_metrics, read_lines

_FIRST = 4  # steps, in which experts that begin at 0 have said next to nothing yet


@dataclass(frozen=True, slots=True)
class Learning:
    """Mean losses in nats a token.

    Attributes:
        own: of the base model alone, by the run's first steps.
        epochs: of whole epochs, the first one first.
    """

    own: float
    epochs: tuple[float, ...]

    @property
    def is_worse(self) -> bool:
        """Whether passages that were seen before have a higher loss than by the base alone."""
        return len(self.epochs) > 1 and self.epochs[-1] > self.own

    @property
    def advice(self) -> str:
        """What to tell where it is worse."""
        return (
            f"in epoch {len(self.epochs)} the loss was {self.epochs[-1]:.2f}, above the "
            f"{self.own:.2f} of the base model alone: what is learnt of one passage is lost to the "
            "next. Delete RUN/checkpoints, and encode with a lower train.experts_lr or more "
            "experts; `polyprag plan RUN` says how many hold these passages"
        )


def learning_of(url: str, *, has_ended: bool) -> Learning | None:
    """Returns what a run's metrics say of it.

    Args:
        url: of the metrics file, which may not be there.
        has_ended: whether the last epoch in it is whole.

    Returns:
        None where the first steps aren't there, or no epoch is whole.

    Raises:
        FileError: it can't be read.
    """
    first: list[float] = []
    losses: dict[int, tuple[float, int]] = {}
    for line in read_lines(url):
        metrics = _read(line)
        if metrics is None:
            continue
        if metrics.step <= _FIRST:
            first.append(metrics.loss)
        total, number = losses.get(metrics.epoch, (0.0, 0))
        losses[metrics.epoch] = total + metrics.loss, number + 1
    whole = sorted(losses)[: None if has_ended else -1]
    if not whole or len(first) < _FIRST:
        return None
    means = tuple(losses[epoch][0] / losses[epoch][1] for epoch in whole)
    return Learning(sum(first) / len(first), means)


def _read(line: bytes) -> StepMetrics | None:
    try:
        return parse_metrics(line)
    except ValueError:  # a torn line says nothing of the others
        return None

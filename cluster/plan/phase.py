"""A phase of a run, as its checkpoints record it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of joint training over a corpus as it was then.

    Attributes:
        first_step: global steps done before it.
        last_step: global steps done after it.
        first_epoch: passes over the corpus before it.
        epochs: passes in it.
        num_partitions: of the corpus.
    """

    first_step: int
    last_step: int
    first_epoch: int
    epochs: int
    num_partitions: int

"""A phase of a run, as its checkpoints record it."""

from sharding.storage.versioned import Natural, Stored


class Phase(Stored, frozen=True):
    """A stretch of joint training over a corpus as it was then.

    Attributes:
        first_step: global steps done before it.
        last_step: global steps done after it.
        first_epoch: passes over the corpus before it.
        epochs: passes in it.
        num_partitions: of the corpus.
    """

    first_step: Natural
    last_step: Natural
    first_epoch: Natural
    epochs: Natural
    num_partitions: Natural

"""Training an encoding from its checkpoint to its end, in a process group of any size."""

from collections.abc import Callable, Sequence

from cluster.checkpoints.request import TrainingRequest
from cluster.record.sinks.sink import Sink
from cluster.training.load import load_run
from cluster.training.loop import TrainingOutcome, train_epochs
from cluster.training.start import start_training
from cluster.training.write_encoding import write_encoding
from polyprag.config import Config


def train_encoding(
    run_dir: str,
    config: Config,
    *,
    first_step: int = 0,
    first_epoch: int = 0,
    lease: int | None = None,
    beat: Callable[[str], None] = lambda doing: None,
    asked: Callable[[], TrainingRequest] = lambda: TrainingRequest.NONE,
    sinks: Sequence[Sink] = (),
) -> TrainingOutcome:
    """Trains a phase to its end, resuming from the run's checkpoint where there is one.

    Call it on every worker of an initialised process group.

    Args:
        run_dir: with a prepared and augmented corpus.
        config: the same on every worker.
        first_step: global steps done before this phase; see `plan_phase`.
        first_epoch: passes over the corpus before this phase.
        beat: is called with what comes next, whenever there was progress.
        lease: the number of the run's lease under which this trains; None: nobody else can.
        asked: what this worker is asked for, besides the requests in the run's directory.
        sinks: get every step on this worker, besides those of `log.sinks`; the caller closes them.

    Returns:
        How far it came: to the phase's end, or to the checkpoint that a request asked for.

    Raises:
        PolypragError: on every worker alike, when one of them met a user's error.
    """
    run = load_run(run_dir, config, first_step=first_step, first_epoch=first_epoch, lease=lease)
    with start_training(run, beat=beat, sinks=sinks) as training:
        outcome = train_epochs(training, asked=asked)
        if outcome.request is TrainingRequest.NONE:
            write_encoding(training, step=outcome.step)
    return outcome

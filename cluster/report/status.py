"""How far a run is, from its directory alone: `polyprag status`.

Nothing here asks Ray, so it works on any machine that sees the directory, and after everything
else has died.
"""

import time
from dataclasses import dataclass, field

from cluster.checkpoints.manifest import MANIFEST_NAME as CHECKPOINT
from cluster.checkpoints.manifest import CheckpointManifest
from cluster.record.events import EVENTS_DIRECTORY, Event, groups_of_workers, read_events
from cluster.record.learning import Learning, learning_of
from cluster.record.metrics import METRICS_FILE, StepMetrics, last_metrics
from polyprag.encoding.manifest import MANIFEST_NAME as ENCODING
from polyprag.errors import RunError
from sharding.corpus.manifest import MANIFEST_NAME, CorpusManifest
from sharding.storage.files import changed_at, exists, join, newest_change, size_of
from sharding.storage.lease import LEASE_DIRECTORY, Holder, read

_RATE_OVER_STEPS = 100
_MOST_READ = 1 << 26  # bytes of a metrics file; a step has some 500
_TRAINING = ("encode", "train-more")  # commands that train


@dataclass(frozen=True, slots=True)
class CorpusStatus:
    """The corpus in numbers.

    Attributes:
        passages: removed ones among them.
        partitions: all.
        augmented: partitions with rewrites and questions.
    """

    passages: int
    partitions: int
    augmented: int


@dataclass(frozen=True, slots=True)
class TrainingStatus:
    """How far training is, and how fast.

    Attributes:
        step: global steps done, by the metrics, or else the checkpoint.
        last_step: global steps that there will be; None where nothing tells.
        epoch: of the last step, from 0.
        loss: of the last step.
        world_size: workers of the last step.
        step_seconds: mean of the last steps, with what they waited for checkpoints.
        examples_per_second: over the same steps.
        tokens_per_second: over the same steps.
        data_wait: share of the time in which steps waited for examples.
        rows_wait: the same for routing rows.
        checkpoint_wait: the same for checkpoints.
        mfu: model-FLOP utilisation over the same steps; 0 where it isn't known.
        age_s: seconds since the last step was written down; None where the storage doesn't tell.
        learning: its loss by epoch; None where nothing can be said, or for length isn't read.
        quiet_s: seconds in which a command that trains has shown no sign of progress: no step, and
            no start of workers or other event; None where none trains, or the storage doesn't tell.
    """

    step: int
    last_step: int | None
    epoch: int
    loss: float
    world_size: int
    step_seconds: float
    examples_per_second: float
    tokens_per_second: float
    data_wait: float
    rows_wait: float
    checkpoint_wait: float
    mfu: float
    learning: Learning | None
    age_s: float | None
    quiet_s: float | None

    @property
    def is_done(self) -> bool:
        """Whether all steps are done that there will be."""
        return self.last_step is not None and self.step >= self.last_step

    @property
    def seconds_left(self) -> float | None:
        """At the same rate."""
        if self.last_step is None:
            return None
        return max(0, self.last_step - self.step) * self.step_seconds


@dataclass(frozen=True, slots=True)
class CheckpointStatus:
    """The last checkpoint.

    Attributes:
        step: global steps behind it.
        last_step: global steps of its phase.
        world_size: workers that wrote it.
        age_s: seconds since; None where the storage doesn't tell.
    """

    step: int
    last_step: int
    world_size: int
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """A run.

    Attributes:
        holder: the command that works on it, or worked on it last; None where there was none.
        is_held: whether that command hasn't ended, as far as the directory tells.
        is_training: whether it is one that trains.
        corpus: None where it isn't prepared.
        training: None where no step was trained.
        checkpoint: None where there is none.
        is_encoded: whether RUN/encoding is there.
        is_indexed: whether RUN/index is there.
        restarts: times that training began again since the command that trained last started.
        repeated: steps that were done again because of them.
        events: the newest, oldest first.
    """

    holder: Holder | None
    is_held: bool
    is_training: bool
    corpus: CorpusStatus | None
    training: TrainingStatus | None
    checkpoint: CheckpointStatus | None
    is_encoded: bool
    is_indexed: bool
    restarts: int
    repeated: int
    events: list[Event] = field(default_factory=list)


def status_of(run_dir: str, *, num_events: int = 5) -> Status:
    """Reads how far a run is.

    Args:
        run_dir: a path or URL.
        num_events: the newest events that are wanted.

    Raises:
        RunError: there is no run, or its checkpoint's manifest is damaged.
        FileError: another file of it is damaged.
    """
    lease = read(join(run_dir, LEASE_DIRECTORY))
    corpus_url = join(run_dir, "corpus")
    has_corpus = exists(join(corpus_url, MANIFEST_NAME))
    if lease is None and not has_corpus:
        raise RunError(
            f"{run_dir}: no run is here; `polyprag prepare {run_dir} passages.jsonl` makes one"
        )
    manifest = CorpusManifest.load(corpus_url) if has_corpus else None
    saved = CheckpointManifest.load(join(run_dir, "checkpoints"))
    events = read_events(run_dir)
    groups = groups_of_workers(events)
    holder = lease[1] if lease else None
    is_held = holder is not None and not holder.has_ended()
    trains_since = holder.since if holder and is_held and holder.purpose in _TRAINING else None
    return Status(
        holder=holder,
        is_held=is_held,
        is_training=trains_since is not None,
        corpus=CorpusStatus(
            manifest.num_passages,
            len(manifest.partitions),
            sum(part.augmented for part in manifest.partitions),
        )
        if manifest
        else None,
        training=_training(run_dir, saved, events, trains_since=trains_since),
        checkpoint=CheckpointStatus(
            saved.step,
            saved.phase.last_step,
            saved.world_size,
            _age(join(run_dir, "checkpoints", CHECKPOINT)),
        )
        if saved
        else None,
        is_encoded=exists(join(run_dir, "encoding", ENCODING)),
        is_indexed=exists(join(run_dir, "index", "manifest.json")),
        restarts=max(0, len(groups) - 1),
        repeated=sum(event.repeated or 0 for event in groups[1:]),
        events=events[-num_events:] if num_events else [],
    )


def _training(
    run_dir: str,
    saved: CheckpointManifest | None,
    events: list[Event],
    *,
    trains_since: float | None,
) -> TrainingStatus | None:
    url = join(run_dir, "logs", METRICS_FILE)
    steps = last_metrics(url, most=_RATE_OVER_STEPS)
    if not steps:
        return None
    last = steps[-1]
    seconds = sum(step.seconds + step.checkpoint_wait for step in steps) or 1e-9

    last_step, age_s = _last_step(last, saved, events), _age(url)
    quiet_s = None
    is_teaching = bool(events) and events[-1].kind == "teaching"  # which takes no steps
    if trains_since is not None and age_s is not None and not is_teaching:
        started_s = max(0.0, time.time() - trains_since)
        event_s = _age_of(newest_change(join(run_dir, EVENTS_DIRECTORY)))
        quiet_s = min(age_s, started_s, age_s if event_s is None else event_s)

    def share(parts: list[float]) -> float:
        return sum(parts) / seconds

    return TrainingStatus(
        step=last.step,
        last_step=last_step,
        epoch=last.epoch,
        loss=last.loss,
        world_size=last.world_size,
        step_seconds=seconds / len(steps),
        examples_per_second=sum(step.examples for step in steps) / seconds,
        tokens_per_second=sum(step.tokens for step in steps) / seconds,
        data_wait=share([step.data_wait for step in steps]),
        rows_wait=share([step.rows_wait for step in steps]),
        checkpoint_wait=share([step.checkpoint_wait for step in steps]),
        mfu=share([step.mfu * step.seconds for step in steps]),
        learning=learning_of(url, has_ended=last.step == last_step)
        if size_of(url) <= _MOST_READ
        else None,
        age_s=age_s,
        quiet_s=quiet_s,
    )


def _last_step(
    last: StepMetrics, saved: CheckpointManifest | None, events: list[Event]
) -> int | None:
    """Returns the last step of what is being trained: the newest event's, else the checkpoint's."""
    told = [event.last_step for event in events if event.last_step is not None]
    if told and told[-1] >= last.step:
        return told[-1]
    return saved.phase.last_step if saved and saved.phase.last_step >= last.step else None


def _age(url: str) -> float | None:
    return _age_of(changed_at(url))


def _age_of(changed: float | None) -> float | None:
    """Returns the seconds since a time; None where there is none."""
    return max(0.0, time.time() - changed) if changed else None

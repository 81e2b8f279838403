"""What `polyprag status` found, as text for people."""

import time

from cluster.report.plan_text import duration_text
from cluster.report.status import CheckpointStatus, Status, TrainingStatus
from sharding.counted import counted
from sharding.printable import printable

_STALLED_STEPS, _STALLED_SECONDS = 20, 120.0  # longer than both without a step is worth a word
_MAX_DETAIL = 160  # characters


def status_text(found: Status, run_dir: str) -> str:
    """Returns the findings as lines.

    Args:
        found: of a run.
        run_dir: named in the first line.
    """
    lines = [printable(run_dir)]
    if found.holder is not None:
        holder = printable(str(found.holder))
        lines.append(f"{'at work' if found.is_held else 'last worked':13} {holder}")
    else:
        lines.append("at work       nothing")
    if found.corpus is None:
        lines.append("corpus        not prepared yet")
    else:
        corpus = found.corpus
        lines.append(
            f"corpus        {counted(corpus.passages, 'passage')} in "
            f"{counted(corpus.partitions, 'partition')}, {corpus.augmented:,} of them augmented"
        )
    lines += _training(found.training, found) if found.training else ["training      not begun"]
    if found.checkpoint is not None:
        lines.append(_checkpoint(found.checkpoint))
    lines.append(f"encoding      {'written' if found.is_encoded else 'not yet'}")
    lines.append(f"index         {'built' if found.is_indexed else 'not yet'}")
    for event in found.events:
        when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(event.time))
        who = f" (worker {event.rank} on {event.host})" if event.rank is not None else ""
        detail = " ".join(event.detail.split())
        shown = detail if len(detail) <= _MAX_DETAIL else f"... {detail[-_MAX_DETAIL:]}"
        lines.append(printable(f"  {when}  {event.kind}{who}{': ' if shown else ''}{shown}"))
    return "\n".join(lines)


def _training(of: TrainingStatus, found: Status) -> list[str]:
    whole = f" of {of.last_step:,} ({of.step / max(1, of.last_step):.0%})" if of.last_step else ""
    left = of.seconds_left
    eta = f", {duration_text(left)} left" if left and found.is_training else ""
    when = "now" if found.is_training and not of.is_done else "last"
    age = f", {duration_text(of.age_s)} ago" if of.age_s is not None else ""
    lines = [
        f"training      step {of.step:,}{whole}{age}{eta}",
        f"  {when:<11} epoch {of.epoch}, loss {of.loss:.3f}, "
        f"{counted(of.world_size, 'worker')}: {of.step_seconds:.3g} s a step, "
        f"{of.examples_per_second:,.0f} examples/s, {of.tokens_per_second:,.0f} tokens/s"
        + (f", MFU {of.mfu:.0%}" if of.mfu else ""),
        f"  waiting     for data {of.data_wait:.1%}, rows {of.rows_wait:.1%}, "
        f"checkpoints {of.checkpoint_wait:.1%} of the time",
    ]
    if found.restarts:
        lines.append(
            f"  restarts    {found.restarts}, after which {counted(found.repeated, 'step')} "
            "had to be done again"
        )
    if of.learning is not None and of.learning.is_worse:
        lines.append(f"  warning     {of.learning.advice}")
    quiet = max(_STALLED_SECONDS, _STALLED_STEPS * of.step_seconds)
    if of.quiet_s is not None and not of.is_done and of.quiet_s > quiet:
        lines.append(
            f"  warning     no step for {duration_text(of.quiet_s)}: see the workers' logs beside "
            "the metrics"
        )
    return lines


def _checkpoint(of: CheckpointStatus) -> str:
    age = f", {duration_text(of.age_s)} ago" if of.age_s is not None else ""
    return (
        f"checkpoint    step {of.step:,} of {of.last_step:,}, by "
        f"{counted(of.world_size, 'worker')}{age}"
    )

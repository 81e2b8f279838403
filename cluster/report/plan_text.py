"""A run's plan as text for people: a table of amounts, then memory, checkpoints and time."""

from typing import TYPE_CHECKING

from cluster.plan.capacity import GOOD_SHARE, LAW_RATE, MOST_ADVISED
from polyprag.config import Config
from sharding.counted import counted

if TYPE_CHECKING:  # they import what plans
    from cluster.plan.forecast import Amount
    from cluster.plan.run import RunPlan

_WORTH_SKIPPING = 0.05  # of the tokens
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size_text(num_bytes: float) -> str:
    """Bytes in decimal units, three digits or more."""
    unit = 0
    while num_bytes >= 1000 and unit < len(_UNITS) - 1:
        num_bytes, unit = num_bytes / 1000, unit + 1
    digits = 0 if unit == 0 or num_bytes >= 100 else 1 if num_bytes >= 10 else 2
    return f"{num_bytes:.{digits}f} {_UNITS[unit]}"


def duration_text(seconds: float) -> str:
    """Returns a duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h"


def plan_text(plan: "RunPlan", config: Config, *, run_dir: str) -> str:
    """Returns the plan as lines of at most about 100 characters, notes aside.

    Args:
        plan: of a run.
        config: of the run.
        run_dir: named in the first line.
    """
    found = plan.forecast
    estimated = " (estimated)" if found.examples_are_estimated else ""
    lines = [
        f"{run_dir} on {counted(found.workers, 'worker')}: {config.data.lanes:,} lanes of "
        f"{config.data.microbatch:,} examples, ZeRO {config.deepspeed.stage}",
        "",
        f"{'':22}{'whole':>16}   a worker (least to most)",
        _row("lanes", found.lanes),
        _row("partitions", found.partitions),
        _row("passages, rows", found.passages),
        _row("examples an epoch", found.examples) + estimated,
        _row("shards", found.shards, sizes=True),
        _row("routing table", found.table, sizes=True) + f"   {size_text(found.row)} a row",
        _row("its Adam moments", found.optimizer, sizes=True),
        "",
        *_steps(plan, config),
        "",
        *_checkpoints(plan, config),
        "",
        *_memory(plan, config),
        "",
        *_capacity(plan),
        *_time(plan),
    ]
    if plan.improvements:
        lines += ["", "workers would idle less with", *(f"  {t}" for t in plan.improvements)]
    if plan.notes:
        lines += ["", *(f"note: {text}" for text in plan.notes)]
    return "\n".join(line.rstrip() for line in lines)


def _row(name: str, amount: "Amount", *, sizes: bool = False) -> str:
    least, most = (
        (size_text(amount.least), size_text(amount.most))
        if sizes
        else (f"{amount.least:,}", f"{amount.most:,}")
    )
    whole = size_text(amount.whole) if sizes else f"{amount.whole:,}"
    spread = least if least == most else f"{least} to {most}"
    return f"{name:22}{whole:>16}   {spread}"


def _steps(plan: "RunPlan", config: Config) -> list[str]:
    found = plan.forecast
    at_most = "at most " if found.balance.empty_slots else ""
    return [
        f"steps      {found.steps_per_epoch:,} an epoch, each of {at_most}"
        f"{counted(found.examples_per_step, 'example')}; "
        f"{found.total_steps:,} in all ({counted(config.train.epochs, 'epoch')})",
        f"balance    {found.balance.empty_slots:.1%} of the lane slots are empty; "
        f"workers are idle {found.balance.idle_workers:.1%} of the time",
    ]


def _checkpoints(plan: "RunPlan", config: Config) -> list[str]:
    size = plan.forecast.checkpoint
    written = size.experts + size.rewritten_rows
    return [
        f"checkpoint {size_text(size.whole)}: experts and moments {size_text(size.experts)}, rows "
        f"and moments {size_text(size.rows)}",
        f"           one every {counted(config.checkpoint.every_steps, 'step')} writes "
        f"{size_text(written)} on average ({size.incremental_share:.1%}); "
        f"{counted(size.number, 'checkpoint')}",
        f"encoding   {size_text(plan.forecast.encoding)}",
    ]


def _memory(plan: "RunPlan", config: Config) -> list[str]:
    memory = plan.forecast.memory
    lines = []
    for title, items, need, loading in (
        ("accelerator", memory.device, memory.device_need, memory.device_loading),
        ("host memory", memory.host, memory.host_need, memory.host_loading),
    ):
        if not items:
            continue
        peak = "" if need > loading else ", its peak while the base model is loaded"
        lines.append(f"{title}  {size_text(need)} a worker at most{peak}")
        lines += [f"  {name:22}{size_text(num):>10}" for name, num in items.items() if num]
    lines.append("  (activations, streams, runtime are rough)")
    return lines


def _capacity(plan: "RunPlan") -> list[str]:
    found = plan.capacity
    if found is None:
        return []
    lines = [
        f"capacity   {found.facts:,} facts to hold ({found.facts_per_passage:.1f} a passage), "
        f"{found.facts_per_expert:,.0f} for each expert: "
        f"{'enough experts' if found.enough is None else 'too few experts'}.",
        f"           By the law of docs/benchmarks.md, {found.share:.0%} of what a pool with room "
        f"answers{'' if found.enough is None else ';'}",
    ]
    if found.enough is not None and found.enough <= MOST_ADVISED:
        lines.append(f"           experts.num={found.enough:,} would come to {GOOD_SHARE:.0%}")
    elif found.enough is not None:
        lines.append("           no number of experts that anybody has tried would come near that")
    if found.enough is not None:
        lines.append(
            f"           at train.experts_lr={LAW_RATE:g}, by which this was measured; a higher "
            "rate holds less (docs/quality.md)"
        )
    if not found.is_measured:
        lines.append(
            "           (that is beyond what was measured: encode a part first, and ask it)"
        )
    return [*lines, ""]


def _time(plan: "RunPlan") -> list[str]:
    tokens, time = plan.forecast.tokens, plan.forecast.time
    lines = []
    if tokens is None:
        lines.append("tokens     unknown")
    else:
        margin = "" if tokens.margin is None else f" ± {tokens.margin:.1%}"
        lines.append(
            f"tokens     {tokens.per_epoch:,} an epoch, {tokens.per_example:.1f}{margin} an example"
            f" ({tokens.source})"
        )
        if tokens.skippable > _WORTH_SKIPPING:
            lines.append(
                f"           ({tokens.skippable:.0%} of them are what all prompts begin with: "
                "experts.skip_prefix=true leaves it out)"
            )
    if time is None:
        lines.append("time       not estimated")
    else:
        lines.append(
            f"time       {duration_text(time.seconds)} of training at "
            f"{time.tokens_per_second:,.0f} tokens/s a worker ({time.source})"
        )
    return lines

"""`polyprag plan`: what an encoding will take, before a cluster pays for it."""

from typing import TYPE_CHECKING, Any

import click

from polyprag.cli.arguments import (
    config_option,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
)
from polyprag.cli.output import echo, echo_json

if TYPE_CHECKING:
    from cluster.plan.run import RunPlan


@click.command("plan")
@run_argument
@overrides_argument
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many workers to plan for.  [default: cluster.workers]",
)
@click.option(
    "--tokens-per-second",
    type=click.FloatRange(min=0, min_open=True),
    help="What one worker trains, for the time.  [default: as RUN's own metrics say]",
)
@click.option("--like", metavar="RUN", help="Take the rate from this run's metrics.")
@click.option(
    "--worker-memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="What a worker has: of its GPU where cluster.gpus_per_worker is set, else of the machine. "
    "A plan that needs more is refused.",
)
@click.option(
    "--host-memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="What a worker with a GPU has of its machine's memory.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@config_option
def command(
    run: str,
    arguments: tuple[str, ...],
    workers: int | None,
    tokens_per_second: float | None,
    like: str | None,
    worker_memory: float | None,
    host_memory: float | None,
    as_json: bool,
    configs: tuple[str, ...],
) -> None:
    """Forecast the encoding of RUN: steps, sizes, memory and time.

    Reads the corpus manifest, the base model's config (no weights), and a sample of passages.
    Exits with 2 at a plan that can't work and says what would. Memory is in GB of 10^9
    bytes.

    \b
    Examples:
      polyprag plan runs/wiki --workers 64 --worker-memory 80 \\
          --tokens-per-second 21000
      polyprag plan runs/wiki --workers 16 --like runs/trial data.lanes=128
      polyprag plan runs/wiki --config llama-3-8b --workers 8 --json
    """
    if tokens_per_second is not None and like is not None:
        raise click.UsageError("--tokens-per-second and --like both give the rate: leave one out")
    overrides = only_overrides(arguments)
    if workers is not None:
        overrides = [*overrides, f"cluster.workers={workers}"]
    config = settings_of(run, configs, overrides)
    if host_memory is not None and not config.cluster.gpus_per_worker:
        raise click.UsageError(
            "--host-memory is for workers with GPUs; without them use --worker-memory"
        )
    from cluster.plan.feasibility import Limits
    from cluster.plan.run import plan_run
    from cluster.report.plan_text import plan_text
    from polyprag.errors import RunError

    on_gpu = config.cluster.gpus_per_worker > 0
    of_worker, of_host = _bytes(worker_memory), _bytes(host_memory)
    limits = Limits(device=of_worker, host=of_host) if on_gpu else Limits(host=of_worker)
    plan = plan_run(run, config, tokens_per_second=tokens_per_second, like=like, limits=limits)
    if as_json:
        echo_json(_fields(plan))
    else:
        echo(plan_text(plan, config, run_dir=run))
    if plan.problems:
        raise RunError(f"{run}: this plan can't work: {' -- '.join(plan.problems)}")


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * 1e9)


def _fields(plan: "RunPlan") -> dict[str, Any]:
    """Returns the plan as JSON values, with the sums and shares that its classes work out."""
    from dataclasses import asdict

    found = plan.forecast
    fields = asdict(plan)
    numbers = fields["forecast"]
    numbers["balance"] |= {
        "empty_slots": found.balance.empty_slots,
        "idle_workers": found.balance.idle_workers,
    }
    numbers["checkpoint"] |= {
        "whole": found.checkpoint.whole,
        "incremental_share": found.checkpoint.incremental_share,
    }
    numbers["memory"] |= {
        "device_need": found.memory.device_need,
        "host_need": found.memory.host_need,
    }
    return fields

"""`polyprag checkpoint`: have an encode that runs make a checkpoint now."""

import click

from polyprag.cli.arguments import run_argument
from polyprag.cli.output import echo


@click.command("checkpoint")
@run_argument
@click.option("--stop", is_flag=True, help="End the training after it.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so long.",
)
def command(run: str, stop: bool, timeout: float) -> None:
    """Have the encode or train-more at work on RUN save its state.

    Waits until it is durable. Works from any machine that sees RUN: before a machine is
    taken away, in a preStop hook, or in a batch system's trap. A SIGTERM to the command
    itself does the same as --stop.

    \b
    Examples:
      polyprag checkpoint s3://bucket/run
      polyprag checkpoint runs/wiki --stop --timeout 110
    """
    from cluster.checkpoints.request import TrainingRequest, request_checkpoint
    from polyprag.errors import RunError
    from sharding.storage.files import join
    from sharding.storage.lease import LEASE_DIRECTORY, read

    held = read(join(run, LEASE_DIRECTORY))
    if held is None or held[1].has_ended():
        raise RunError(f"{run}: no command is at work on it, so there is nothing to save")
    number, holder = held
    if holder.purpose not in ("encode", "train-more"):
        raise RunError(f"{run}: {holder} is at work, which needs no checkpoint")
    request = TrainingRequest.STOP if stop else TrainingRequest.CHECKPOINT
    step = request_checkpoint(
        run, request, by="polyprag checkpoint", lease=number, timeout_s=timeout
    )
    if step is None:
        raise RunError(
            f"{run}: no checkpoint was made within {timeout:g} s: the workers may be starting, or "
            f"gone; `polyprag status {run}` tells; try again with a longer --timeout"
        )
    echo(f"{run}: checkpoint of step {step}" + ("; training stops" if stop else ""))

"""`polyprag status`: how far a run is, from any machine that sees its directory."""

import click

from polyprag.cli.arguments import run_argument
from polyprag.cli.output import echo, echo_json


@click.command("status")
@run_argument
@click.option(
    "--events",
    "num_events",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="Show the last N events: starts, restarts, failures.",
)
@click.option(
    "--watch",
    "seconds",
    type=click.FloatRange(min=0.5),
    metavar="SECONDS",
    help="Show it again every so many seconds, until Ctrl-C.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(run: str, num_events: int, seconds: float | None, as_json: bool) -> None:
    """Show what RUN is doing: progress, time left and failures.

    Only RUN is read, so any machine that sees it can tell, whether or not the cluster lives.

    \b
    Examples:
      polyprag status runs/wiki
      polyprag status s3://bucket/runs/wiki --watch 10
      polyprag status runs/wiki --json | jq .training.step
    """
    import time

    import msgspec

    from cluster.report.status import status_of
    from cluster.report.status_text import status_text
    from polyprag.streams import end_if_unread

    while True:
        found = status_of(run, num_events=num_events)
        if as_json:
            fields = msgspec.to_builtins(found)
            if found.training is not None:
                fields["training"]["seconds_left"] = found.training.seconds_left
            echo_json(fields)
        else:
            echo(status_text(found, run))
        if seconds is None:
            return
        end_if_unread()
        time.sleep(seconds)
        if not as_json:
            echo()

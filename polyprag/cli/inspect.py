"""`polyprag inspect`: what a run's checkpoint and routing table hold."""

import click

from polyprag.cli.arguments import run_argument
from polyprag.cli.output import echo, echo_json


@click.command("inspect")
@run_argument
@click.option(
    "--sample",
    "max_partitions",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    metavar="N",
    help="Read the rows of N partitions, spread over the table, for norms and usage; 0 reads all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, max_partitions: int, as_json: bool) -> None:
    """Show RUN's checkpoint, rows and use of the experts.

    Which partitions the last checkpoint wrote, rows that were never trained, the rows' norms,
    how evenly the experts are used, and the bytes that a passage takes next to a LoRA of its
    own (PRAG).

    \b
    Examples:
      polyprag inspect runs/wiki
      polyprag inspect runs/wiki --sample 0 --json
    """
    from dataclasses import asdict

    from cluster.report.inspection import inspect_run
    from cluster.report.inspection_text import inspection_text
    from polyprag.progress import progress

    found = inspect_run(run, max_partitions=max_partitions, show=progress)
    if as_json:
        echo_json(asdict(found), indent=1)
    else:
        echo(inspection_text(found, run))

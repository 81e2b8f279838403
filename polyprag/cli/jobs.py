"""`polyprag jobs`: what `polyprag submit` has started."""

import time
from typing import TYPE_CHECKING

import click

from polyprag.cli.groups import SuggestingGroup
from polyprag.cli.output import echo, echo_json
from polyprag.cli.submit import address_option, follow_job
from sharding.printable import printable

if TYPE_CHECKING:
    from cluster.jobs.client import Job

job_argument = click.argument("job_id", metavar="JOB")


@click.group("jobs", cls=SuggestingGroup)
def command() -> None:
    """List, follow and stop jobs on a Ray cluster.

    \b
    Examples:
      polyprag jobs list --address http://head:8265
      polyprag jobs logs polyprag-encode-1b2c3d4e-1 --follow
      polyprag jobs stop polyprag-encode-1b2c3d4e-1
    """


@command.command("list")
@address_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_jobs(address: str | None, as_json: bool) -> None:
    """List the cluster's polyprag jobs, oldest first.

    \b
    Examples:
      polyprag jobs list
      polyprag jobs list --address http://head:8265 --json
    """
    from dataclasses import asdict

    from cluster.jobs.client import Jobs

    jobs = Jobs(address).all()
    if as_json:
        echo_json([asdict(job) for job in jobs], indent=1)
        return
    if not jobs:
        echo("no polyprag jobs", err=True)
    for job in jobs:
        echo(f"{job.id}  {job.status:9}  {_time(job.started)}  {_command(job)}")


@command.command("status")
@job_argument
@address_option
def status(job_id: str, address: str | None) -> None:
    """Show a job.

    \b
    Examples:
      polyprag jobs status polyprag-encode-1b2c3d4e-1
    """
    from cluster.jobs.client import Jobs

    job = Jobs(address).get(job_id)
    echo(
        f"{job.id}: {job.status.lower()}\n"
        f"command  polyprag {_command(job)}\n"
        f"started  {_time(job.started)}\n"
        f"ended    {_time(job.ended)}\n"
        f"Ray says {printable(job.message)}"
    )
    if job.is_active:
        echo(f"next: polyprag status {job.run}")


@command.command("logs")
@job_argument
@address_option
@click.option("--follow", is_flag=True, help="Go on until it ends.")
def logs(job_id: str, address: str | None, follow: bool) -> None:
    """Show what a job has printed.

    \b
    Examples:
      polyprag jobs logs polyprag-encode-1b2c3d4e-1
      polyprag jobs logs polyprag-encode-1b2c3d4e-1 --follow
    """
    from cluster.jobs.client import Jobs

    jobs = Jobs(address)
    if follow:
        follow_job(jobs, job_id)
    else:
        echo(jobs.logs(job_id), nl=False)


@command.command("stop")
@job_argument
@address_option
def stop(job_id: str, address: str | None) -> None:
    """Stop a job. Submitted again, it goes on from its last checkpoint.

    \b
    Examples:
      polyprag jobs stop polyprag-encode-1b2c3d4e-1
    """
    from cluster.jobs.client import Jobs

    Jobs(address).stop(job_id)
    echo(f"{job_id}: asked to stop")


def _command(job: "Job") -> str:
    return printable(f"{job.command} {job.run}")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))

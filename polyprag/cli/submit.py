"""`polyprag submit`: a command as a job of a Ray cluster."""

import os
from glob import glob
from typing import TYPE_CHECKING

import click

from polyprag.cli.arguments import checked_settings, run_argument, split_overrides
from polyprag.cli.output import echo

if TYPE_CHECKING:
    from cluster.jobs.client import Jobs
    from polyprag.config import Config

_TRUST = "--trust-run"
_FILE_OPTIONS = ("--questions", "--out", "--qa")  # of the commands that can be jobs
_ENDING_S = 30.0  # for a command to end after its last checkpoint

address_option = click.option(
    "--address",
    metavar="URL",
    help="The cluster's job server, http://HOST:8265. By default RAY_API_SERVER_ADDRESS, or else "
    "this machine.",
)


@click.command("submit", context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="COMMAND")
@run_argument
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENT]...")
@address_option
@click.option("--follow", is_flag=True, help="Show what it prints until it ends.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Start the command again so often when it fails other than by a mistake of yours.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="An environment variable for the job. AWS regions and endpoints are passed on anyway.",
)
@click.option(
    "--installed",
    is_flag=True,
    help="Run the polyprag that the cluster has, rather than this one's code.",
)
def command(
    name: str,
    run: str,
    arguments: tuple[str, ...],
    address: str | None,
    follow: bool,
    retries: int,
    variables: tuple[str, ...],
    installed: bool,
) -> None:
    """Run a command on a Ray cluster as a job.

    COMMAND is one that works on a run: prepare, augment, encode, train-more, add, remove,
    index or evaluate; its own arguments follow as usual. RUN must be a directory or URL that
    all machines of the cluster see. This polyprag's code and the configs that you name go
    along.

    Submitted again while it runs, the same job is attached to; afterwards a new one goes on
    from what was done. The job goes on when this command ends. `polyprag jobs` shows it, and
    `polyprag status RUN` how far it is.

    \b
    Examples:
      polyprag submit encode s3://bucket/run --config llama-3-8b \\
          --address http://head:8265
      polyprag submit encode /nfs/wiki cluster.workers=16 --follow
      polyprag submit prepare /nfs/wiki /nfs/psgs_w100.tsv.gz --ray --retries 0
    """
    from cluster.jobs.client import JOB_COMMANDS, Jobs

    if name not in JOB_COMMANDS:
        raise click.UsageError(f"{name!r} can't be a job; choose of {', '.join(JOB_COMMANDS)}")
    config, reaches = _checked(name, run, arguments)
    environment = dict(_pair(text) for text in variables)
    words = _absolute(arguments, config)
    if reaches and _TRUST not in words:
        words.append(_TRUST)  # it has been asked for here, where the user's own settings are
    words += _unusual_keys(config) if name != "remove" else []  # which takes no settings
    jobs = Jobs(address)
    warn_if_open(jobs)
    job, is_new = jobs.submit(
        name,
        run,
        words,
        retries=retries,
        grace_s=config.cluster.grace_seconds + _ENDING_S,
        environment=environment,
        with_code=not installed,
    )
    at = f" --address {jobs.address}" if address else ""
    echo(f"{job.id}: {'submitted' if is_new else f'there already, {job.status.lower()}'}")
    if not follow:
        echo(f"next: polyprag jobs logs {job.id} --follow{at}")
        return
    follow_job(jobs, job.id)


def follow_job(jobs: "Jobs", job_id: str) -> None:
    """Shows what a job prints until it ends.

    Raises:
        RunError: it hasn't succeeded.
    """
    from polyprag.errors import RunError
    from polyprag.streams import end_if_unread

    def show(text: str) -> None:
        echo(text, nl=False)
        end_if_unread()

    try:
        job = jobs.follow(job_id, show)
    except KeyboardInterrupt:
        echo(f"\n{job_id} goes on; `polyprag jobs stop {job_id}` ends it", err=True)
        raise click.exceptions.Exit(130) from None
    if job.status != "SUCCEEDED":
        raise RunError(f"{job.id}: {job.status.lower()}: {job.message}")
    echo(f"{job.id}: succeeded")


def warn_if_open(jobs: "Jobs") -> None:
    """Says what it means that a cluster on another machine asks for no token."""
    from cluster.jobs.client import is_loopback

    if not is_loopback(jobs.address) and jobs.is_open():
        echo(
            f"warning: {jobs.address} asks for no token: whoever reaches it can run any program on "
            "the cluster, with your credentials (CVE-2023-48022). Start it with "
            "RAY_AUTH_MODE=token and keep the port closed to others",
            err=True,
        )


def _checked(name: str, run: str, arguments: tuple[str, ...]) -> "tuple[Config, bool]":
    """Returns the job's settings, and whether they reach out of the run; refuses what they may."""
    from cluster.jobs.package import named_configs

    _, overrides = split_overrides(arguments)
    configs = list(named_configs(arguments).values())
    return checked_settings(name, run, configs, overrides, trust_run=_TRUST in arguments)


def _unusual_keys(config: "Config") -> list[str]:
    """Returns as settings the endpoints whose keys `--trust-run` doesn't cover."""
    from polyprag.config.trust import key_is_usual, outside

    return [
        f"{key}={value}"
        for each in outside(config, is_remote=True)
        if not key_is_usual(each)
        for key, value in each.values.items()
        if value is not None
    ]


def _absolute(arguments: tuple[str, ...], config: "Config") -> list[str]:
    """Makes local paths absolute for a job, which runs in another directory."""
    from polyprag.config.paths import changed_paths
    from sharding.storage.urls import absolute

    words = list(arguments)
    for at, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in _FILE_OPTIONS and equals:
            words[at] = f"{option}={absolute(value)}"
        elif at and words[at - 1] in _FILE_OPTIONS:
            words[at] = absolute(word)  # --out needn't be there yet
        elif ("/" in word or "." in word) and (os.path.exists(word) or glob(word)):
            words[at] = absolute(word)
    return words + [f"{key}={path}" for key, path in changed_paths(config).items()]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--env {text!r}: write NAME=VALUE")
    return name, value

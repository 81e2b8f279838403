"""`polyprag verify`: is a run directory whole, and what can be mended."""

from functools import partial

import click

from polyprag.cli.arguments import run_argument
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo, echo_json
from polyprag.cli.workers import local_pool, workers_option
from sharding.printable import printable

_BYTES_PER_WORKER = 256 << 20


@click.command("verify")
@run_argument
@click.option(
    "--quick",
    is_flag=True,
    help="Check manifests, presence and sizes only, not what the files hold.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Mend what can be made again without loss: offset indexes, a corpus manifest, its counts; "
    "and remove what killed commands left.",
)
@workers_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(run: str, quick: bool, repair: bool, workers: int | None, as_json: bool) -> None:
    """Check all of RUN: corpus, checkpoints, encoding and index.

    Reads every file to its end, looks a sample of passages up in all parts of the index, and tells
    all that is wrong, not just the first. Exits with 0 when RUN is sound and with 2 when it isn't.
    Use it after a copy, after a disk has filled up, or before a long job, and while no other
    command works on RUN.

    --repair never removes a file that a manifest names or that a running command may have written
    (something was written beside it in the last hour). What it can't mend says what does.

    \b
    Examples:
      polyprag verify runs/wiki
      polyprag verify s3://bucket/runs/wiki --quick
      polyprag verify runs/wiki --repair --json
    """
    from cluster.checkpoints.manifest import CheckpointManifest
    from polyprag.errors import RunError
    from polyprag.progress import progress
    from polyprag.verify.run import verify_run
    from sharding.checks.problem import mend

    if repair:
        hold_lease(run, "verify --repair")
    with local_pool(workers, at_most=_at_most(run, quick=quick)) as pool:
        look = partial(
            verify_run,
            run,
            load_checkpoint=CheckpointManifest.load,
            quick=quick,
            pool=pool,
            show=progress,
        )
        found = look()
        done, left = mend(found.problems) if repair else ([], found.problems)
        if done and not found.has_corpus:  # now there is one to hold the rest against
            found = look()
            more, left = mend(found.problems)
            done += more
    if as_json:
        problems = [
            {"file": problem.file, "message": problem.message, "repairable": bool(problem.repair)}
            for problem in left
        ]
        fields = {"sound": not left, "checked": found.checked, "repaired": done}
        echo_json(fields | {"problems": problems, "notes": found.notes})
    else:
        for stage, summary in found.checked.items():
            echo(f"{stage}: {summary or 'not made yet'}")
        for line in (*(f"repaired: {what}" for what in done), *(p.message for p in left)):
            echo(printable(line))
        for note in found.notes:
            echo(f"note: {printable(note)}")
    if left:
        mendable = sum(problem.repair is not None for problem in left)
        hint = f"; --repair mends {mendable} of them" if mendable else ""
        raise RunError(f"{run}: {len(left)} problem{'s'[: len(left) - 1]}{hint}")


def _at_most(run: str, *, quick: bool) -> int:
    """Returns one process for each so many bytes of shards."""
    from polyprag.errors import FileError
    from sharding.storage.files import join, list_sizes

    if quick:
        return 1
    try:
        total = sum(list_sizes(join(run, "corpus")).values())
    except FileError:
        return 1
    return total // _BYTES_PER_WORKER + 1

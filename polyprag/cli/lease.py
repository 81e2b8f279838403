"""The lease of a run: one command at a time works on it."""

import os
import signal
from typing import TYPE_CHECKING

import click

from polyprag.cli.output import echo
from sharding.printable import printable

if TYPE_CHECKING:
    from sharding.storage.lease import Holder


def hold_lease(run: str, purpose: str, *, new: bool = False) -> int | None:
    """Takes the run's lease, which is given back when the command ends.

    Args:
        run: the run directory.
        purpose: the command, which others that wait for the lease are shown.
        new: whether the command may make RUN. Otherwise nothing is written where there is no
            corpus, and the command itself reports that.

    Returns:
        The lease's number.

    Raises:
        LeaseError: another command works on the run.
    """
    from sharding.storage.files import exists, join
    from sharding.storage.lease import LEASE_DIRECTORY, take

    if not new and not exists(join(run, "corpus")):
        return None
    lease = click.get_current_context().with_resource(
        take(join(run, LEASE_DIRECTORY), purpose=purpose, waiting=_tell, lost=_end)
    )
    return lease.number


def _end(message: str) -> None:
    """Ends the command, before it writes where another works."""
    echo(f"error: {message}", err=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _tell(holder: "Holder", seconds: float) -> None:
    echo(
        f"waiting {seconds:.0f} s at most to see whether this still runs: {printable(str(holder))}",
        err=True,
    )

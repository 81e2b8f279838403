"""Locks by which readers of a local index keep its parts from being deleted.

A reader holds a shared lock on the summary of each part that it opened; a build deletes a replaced
part only where it gets the lock for itself. Locks go with their process. File systems without locks
give none: there a reader keeps what it has mapped, as long as the machine that deletes is its own.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from polyprag.retrieval.parts.part import SUMMARY


def hold_part(directory: Path) -> IO[bytes] | None:
    """Returns a shared lock on a part, held until it is closed; None where it can't be locked."""
    try:
        file = open(directory / SUMMARY, "rb")  # noqa: SIM115 - the caller's
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


@contextmanager
def unless_held(directory: Path) -> Iterator[bool]:
    """Tells whether nobody holds a part, and keeps it so for the length of the block."""
    descriptor = None
    free = True
    with suppress(OSError):
        descriptor = os.open(directory / SUMMARY, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
    try:
        yield free
    finally:
        if descriptor is not None:
            os.close(descriptor)

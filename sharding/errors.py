"""The one family of errors that are the user's to fix: shown without a traceback, exit status 2.

Those that another try may mend have an exit status of their own, 75.
"""

from collections.abc import Iterator
from contextlib import contextmanager

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


class PolypragError(Exception):
    """Something the user can mend; the message says what was wrong, where, and what to do.

    Attributes:
        exit_status: of a command that ends with it.
    """

    exit_status = 2


class FileError(PolypragError):
    """A file or directory can't be read, written or listed, or isn't what was written there."""


class StorageError(FileError):
    """A storage failed again and again, and may work again later."""

    exit_status = TRY_AGAIN


class CorpusError(PolypragError):
    """A corpus can't be used: its sources, shards or manifest; names the file, line or member."""


@contextmanager
def corpus_errors() -> Iterator[None]:
    """Turns a `FileError` of the block into a `CorpusError`; a `StorageError` stays what it is."""
    try:
        yield
    except StorageError:
        raise
    except FileError as error:
        raise CorpusError(str(error)) from error

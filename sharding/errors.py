"""The one family of errors that are the user's to fix: shown without a traceback, exit status 2.

Those that another try may mend have an exit status of their own, 75.
"""

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


class PolypragError(Exception):
    """Something the user can mend; the message says what was wrong, where, and what to do.

    Attributes:
        exit_status: of a command that ends with it.
    """

    exit_status = 2


class CorpusError(PolypragError):
    """A corpus file, shard or manifest can't be used; names the file and line or member."""


class StorageError(CorpusError):
    """A storage failed again and again, and may work again later."""

    exit_status = TRY_AGAIN

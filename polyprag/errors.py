"""Errors of the method and its configuration; all belong to the `PolypragError` family."""

import errno

from sharding.errors import TRY_AGAIN, CorpusError, FileError, PolypragError, StorageError

__all__ = [
    "NO_OTHER_TRY",
    "OF_THE_MACHINE",
    "TRY_AGAIN",
    "ConfigError",
    "CorpusError",
    "FileError",
    "PolypragError",
    "RequestError",
    "RunError",
    "StorageError",
    "Terminated",
    "WorkerBugError",
    "WorkersFailedError",
]

NO_OTHER_TRY = 70  # EX_SOFTWARE of sysexits.h: neither the user nor another try mends it

# An operating system's errors that the user mends: no access, no room, not a directory.
OF_THE_MACHINE = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENOTDIR,
)


class ConfigError(PolypragError):
    """A configuration key or value can't be used; names the key and what is allowed."""


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM): as Ctrl-C, with an exit status of its own."""


class RequestError(PolypragError):
    """A request can't be answered as it is; names what in it, and what is allowed."""


class RunError(PolypragError):
    """A run directory lacks what a stage needs; names the stage that makes it."""


class WorkersFailedError(RunError):
    """Workers died or hung more often than is allowed; what was trained is kept."""

    exit_status = TRY_AGAIN


class WorkerBugError(RunError):
    """A worker met an error of the code, or of what it runs on; it would meet it again."""

    exit_status = NO_OTHER_TRY

"""stdout and stderr: notices on the way, and readers that go away, which is no reason to end work.

`polyprag encode RUN 2>&1 | head` closes the pipe after ten lines, a terminal is closed: what is
computed is for the run directory, and not for whoever reads along.
"""

import errno
import io
import os
import signal
import sys
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO)  # from a pipe and from a terminal that nobody has open any more


def notice(text: str) -> None:
    """Prints a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def outlive_readers() -> None:
    """Has this process drop what it would write to stdout or stderr once nobody reads it."""
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)


def end_if_unread() -> None:
    """Ends a command that does nothing but print, and would for ever, once nobody reads stdout.

    Raises:
        SystemExit: with the status of a process that a closed pipe has ended.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _LastingFile) and raw.reader_has_gone:
        sys.exit(128 + signal.SIGPIPE)


class _LastingFile(io.FileIO):
    """A file descriptor, in place of which there is nothing once its reader has gone."""

    reader_has_gone = False

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
        self.reader_has_gone = True
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())  # for libraries that write there by themselves
        os.close(nothing)
        return memoryview(data).nbytes


def _lasting(stream: TextIO) -> TextIO:
    """Returns a stream to the same place that outlives its reader.

    A stream that has no file descriptor, as tests have, is returned itself.
    """
    try:
        descriptor = stream.fileno()
        stream.flush()
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_LastingFile(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=bool(stream.line_buffering),
        write_through=getattr(stream, "write_through", False),
    )

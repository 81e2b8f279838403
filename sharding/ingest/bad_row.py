"""What is wrong with a row of a corpus file, and the error that says so."""

from dataclasses import dataclass
from typing import Literal

from sharding.errors import CorpusError

OnError = Literal["stop", "skip"]

# Reasons that leave nothing of the file to read, and what to do about each.
_FATAL = {
    "wrong header": "give a file in DPR's format, name its columns with --map, or use JSON lines",
    "missing column": "name the file's own columns with --map",
    "not readable": "copy the file again, or write it again",
}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be a passage.

    Attributes:
        line: from 1; of a Parquet or Arrow file the row.
        reason: what it is counted by when it is left out.
        detail: what exactly is wrong.
    """

    line: int
    reason: str
    detail: str = ""

    @property
    def is_fatal(self) -> bool:
        """Whether the file can't be read at all, so that leaving rows out doesn't help."""
        return self.reason in _FATAL

    def error(self, file: str, *, lines_before: int = 0) -> CorpusError:
        """Returns the error for a row whose `line` counts from the line behind `lines_before`."""
        what = f"{self.reason}: {self.detail}" if self.detail else self.reason
        remedy = "mend the file, or leave such lines out with --on-error skip"
        remedy = _FATAL.get(self.reason, remedy)
        return CorpusError(f"{file}:{lines_before + self.line}: {what}; {remedy}")


def bad_utf8(line: int, error: UnicodeError, where: str = "the line") -> BadRow:
    """Returns a row whose bytes or characters aren't valid text."""
    return BadRow(line, "bad UTF-8", f"{where} is not valid text ({error})")

"""The files of rows that a checkpoint adds, some of which may still be on their way."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S")  # what is known of a file of rows that was written


@dataclass(slots=True)
class RowsWritten(Generic[S]):
    """The files that a checkpoint adds; some may still be on their way.

    Attributes:
        files: by partition; the newest where there were several.
        superseded: files that a newer one of the same partition has replaced since.
    """

    files: "dict[int, Future[S]]" = field(default_factory=dict)
    superseded: "list[Future[S]]" = field(default_factory=list)

    def result(self) -> tuple[dict[int, S], list[S]]:
        """Returns the files and the superseded ones, once they are written.

        Raises:
            FileError: one can't be written.
        """
        files = {index: future.result() for index, future in sorted(self.files.items())}
        return files, [future.result() for future in self.superseded]

"""How far a build of the index is, in whole passages."""

from collections.abc import Callable


class BuildProgress:
    """Passages done by all parts together, reported as so many whole passages."""

    def __init__(self, report: Callable[[int], None] | None, *, parts: int) -> None:
        """Starts at zero.

        Args:
            report: called with a number of further passages.
            parts: how many parts each passage goes through.
        """
        self._report, self._parts = report, parts
        self._done = 0

    def advance(self, num_passages: int) -> None:
        """Counts passages that one part is done with."""
        before = self._done // self._parts
        self._done += num_passages
        whole = self._done // self._parts - before
        if self._report is not None and whole:
            self._report(whole)

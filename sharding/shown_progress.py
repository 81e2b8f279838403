"""How a long stage tells whoever shows it how far it is."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Tells that further units are done, and what is worth knowing about them."""

    def __call__(self, done: int, note: str = "", /) -> None:
        """Counts `done` further units; `note` is shown beside them."""


class ShowProgress(Protocol):
    """Shows a stage for the length of a `with` block, as `polyprag.progress.progress` does."""

    def __call__(
        self, total: int | None, description: str, *, unit: str, start: int = 0
    ) -> AbstractContextManager[Advance]:
        """Begins to show a stage of `total` units, if anyone knows how many.

        `start` of them were done before.
        """
        ...


@contextmanager
def show_nothing(
    total: int | None, description: str, *, unit: str, start: int = 0
) -> Iterator[Advance]:
    """For those who don't look."""
    yield lambda done, note="", /: None

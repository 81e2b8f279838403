"""How a long stage tells whoever shows it how far it is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol

_PARTLY: ContextVar[Callable[[float], None] | None] = ContextVar("partly", default=None)


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


def tell_part(share: float) -> None:
    """Tells how much of the task at work is done, 0 to 1, if it is run where somebody listens."""
    listener = _PARTLY.get()
    if listener is not None:
        listener(share)


class PartCount:
    """Counts the units of tasks that are done one after another, also while one is at work.

    Only tasks that this process runs itself are heard of before they are done.
    """

    def __init__(self, advance: Callable[..., None], sizes: Sequence[int]) -> None:
        """Begins with the first task.

        Args:
            advance: see `Advance`.
            sizes: the units of each task.
        """
        self._advance, self._sizes = advance, sizes
        self._done = self._counted = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hears in the block what tasks tell by `tell_part`."""
        token = _PARTLY.set(self._advance_to)
        try:
            yield
        finally:
            _PARTLY.reset(token)

    def finish(self, *note: str) -> None:
        """Counts what is left of a task that is done; the next begins."""
        self._advance(self._sizes[self._done] - self._counted, *note)
        self._done, self._counted = self._done + 1, 0

    def _advance_to(self, share: float) -> None:
        more = int(share * self._sizes[self._done]) - self._counted
        if more > 0:
            self._counted += more
            self._advance(more)

"""How a long stage tells whoever shows it how far it is."""

from collections.abc import Callable, Iterator
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
        self, total: int | None, description: str, *, unit: str
    ) -> AbstractContextManager[Advance]:
        """Begins to show a stage of `total` units, if anyone knows how many."""
        ...


@contextmanager
def show_nothing(total: int | None, description: str, *, unit: str) -> Iterator[Advance]:
    """For those who don't look."""
    yield lambda done, note="", /: None


def tell_part(share: float) -> None:
    """Tells how much of the task at work is done, 0 to 1, if it is run where somebody listens."""
    listener = _PARTLY.get()
    if listener is not None:
        listener(share)


@contextmanager
def parts_told_to(listener: Callable[[float], None]) -> Iterator[None]:
    """Has tasks that this process itself runs in the block tell how much of them is done."""
    token = _PARTLY.set(listener)
    try:
        yield
    finally:
        _PARTLY.reset(token)

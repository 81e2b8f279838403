"""A request that is being answered: its text as it comes, for threads and for coroutines."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from polyprag.answering.answer import Answer
from polyprag.answering.preparation import Prepared
from polyprag.decoding.continuation import Continuation

TextPiece = tuple[int, str]  # which continuation, and what it adds


class Reply:
    """What comes of one request; the engine makes it.

    Iterating gives the pieces of the first continuation's text, in a thread or a coroutine.

    Attributes:
        continuations: what is being said.
        prepared: what it is said with.
        seconds: from its beginning to what was said last.
        first_seconds: from its beginning to what was said first; None until then.
    """

    def __init__(self, prepared: Prepared, judged: Callable[["Reply"], Answer]) -> None:
        """Takes what makes the answer when all is said."""
        self.prepared = prepared
        self.continuations: Sequence[Continuation] = ()
        self.seconds = 0.0
        self.first_seconds: float | None = None
        self._begun_at = time.perf_counter()
        self._judged = judged
        self._changed = threading.Condition()
        self._pieces: list[TextPiece] = []
        self._ended = 0
        self._wakers: set[Callable[[], None]] = set()  # of those who take every piece
        self._waiting: set[Callable[[], None]] = set()  # of those who wait for the end
        self._answer: Answer | None = None

    def note(self, choice: int, continuation: Continuation, piece: str) -> None:
        """Takes in what a continuation adds; its decoder calls this."""
        with self._changed:
            self.seconds = time.perf_counter() - self._begun_at
            if self.first_seconds is None:
                self.first_seconds = self.seconds
            if piece:
                self._pieces.append((choice, piece))
            self._ended += continuation.finish is not None
            self._changed.notify_all()
            wakers = [*self._wakers, *(self._waiting if self.is_done else ())]
        for wake in wakers:
            wake()

    @property
    def is_done(self) -> bool:
        """Whether nothing more comes."""
        return self._ended == len(self.continuations)

    def cancel(self) -> None:
        """Ends what is still being said."""
        for each in self.continuations:
            each.cancel()

    def pieces(self) -> Iterator[TextPiece]:
        """Yields what comes, of all continuations, as it comes.

        Raises:
            Exception: what failed in the model.
        """
        seen = 0
        while new := self._next(seen):
            seen += len(new)
            yield from new
        self._raise()

    def _next(self, seen: int) -> list[TextPiece]:
        """Waits for pieces after those that were seen; none when nothing more comes."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._pieces) > seen or self.is_done)
            return self._pieces[seen:]

    async def stream(self) -> AsyncIterator[TextPiece]:
        """Yields as `pieces` does, without holding the event loop up.

        A coroutine that is given up cancels what is still being said.
        """
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        with self._changed:
            self._wakers.add(wake)
        seen = 0
        try:
            while True:
                woken.clear()
                with self._changed:
                    new, is_done = self._pieces[seen:], self.is_done
                for piece in new:
                    seen += 1
                    yield piece
                if is_done and not new:
                    break
                if not is_done:
                    await woken.wait()
            self._raise()
        finally:
            with self._changed:
                self._wakers.discard(wake)
            self.cancel()

    async def wait(self) -> None:
        """Waits until all is said, without holding the event loop up."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(ended.set)

        with self._changed:
            self._waiting.add(wake)
            if self.is_done:
                return
        await ended.wait()

    def answer(self) -> Answer:
        """Waits until all is said, and returns it, judged.

        Raises:
            Exception: what failed in the model.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.is_done)
        self._raise()
        if self._answer is None:
            self._answer = self._judged(self)
        return self._answer

    def __iter__(self) -> Iterator[str]:
        """Yields the pieces of the first continuation's text."""
        return (piece for choice, piece in self.pieces() if choice == 0)

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yields the pieces of the first continuation's text."""
        async for choice, piece in self.stream():
            if choice == 0:
                yield piece

    def _raise(self) -> None:
        for each in self.continuations:
            if each.error is not None:
                raise each.error

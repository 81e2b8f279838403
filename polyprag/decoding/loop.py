"""A decoder at work in a thread of its own, for callers in any thread."""

import queue
import threading
from collections.abc import Sequence
from types import TracebackType

from polyprag.decoding.continuation import Continuation
from polyprag.decoding.decoder import Decoder


class LoopClosedError(RuntimeError):
    """A loop that was closed takes nothing more."""


class DecodingLoop:
    """Steps while there is something to say, and waits where there isn't."""

    def __init__(self, decoder: Decoder) -> None:
        """Starts the thread, which ends with `close` or with the process."""
        self._decoder = decoder
        self._new: queue.SimpleQueue[list[Continuation] | None] = queue.SimpleQueue()
        self._is_closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="decoding", daemon=True)
        self._thread.start()

    def submit(self, continuations: Sequence[Continuation]) -> None:
        """Adds continuations of one prompt with one mixture; see `Decoder.submit`.

        Raises:
            ValueError: the decoder can't take them.
            LoopClosedError: the loop was closed.
        """
        self._decoder.check(continuations)
        with self._closing:
            if self._is_closed:
                raise LoopClosedError("this engine was closed")
            self._new.put(list(continuations))

    @property
    def decoder(self) -> Decoder:
        """What steps; its numbers may be read from any thread."""
        return self._decoder

    def close(self) -> None:
        """Says what was submitted to its end, takes nothing more, and waits for the thread."""
        with self._closing:
            self._is_closed = True
            self._new.put(None)
        self._thread.join()

    def __enter__(self) -> "DecodingLoop":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        is_busy, is_open = False, True
        while is_open or is_busy:
            while is_open and not (is_busy and self._new.empty()):
                given = self._new.get()
                if given is None:
                    is_open = False
                else:
                    self._decoder.submit(given)
                    is_busy = True
            if is_busy:
                try:
                    is_busy = self._decoder.step()
                except Exception as error:  # of the model, such as no memory left: others come
                    self._decoder.abandon(error)
                    is_busy = False

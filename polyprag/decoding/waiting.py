"""Prompts that wait to be read, and which of them are read together."""

from collections import deque
from collections.abc import Sequence

from polyprag.decoding.continuation import Continuation

# What is read together is padded to the longest: prompts of similar length go together.
_ALIKE, _FEW = 1.5, 48
_MOST_PASSED = 256  # that others overtake at a time; the first is never overtaken


class WaitingPrompts:
    """A queue of prompts, each with its continuations, which are read once for them all."""

    def __init__(self) -> None:
        """Is empty."""
        self._queue: deque[list[Continuation]] = deque()

    @property
    def num_continuations(self) -> int:
        """Of all prompts."""
        return sum(map(len, self._queue))

    def __bool__(self) -> bool:
        return bool(self._queue)

    def put(self, alike: Sequence[Continuation]) -> None:
        """Adds continuations of one prompt."""
        self._queue.append(list(alike))

    def take(self, *, room: int, most_tokens: int) -> list[list[Continuation]]:
        """Takes the first prompt, and those of similar length behind it.

        Args:
            room: continuations at most; one for which there is none holds up those behind it.
            most_tokens: of all, padding included; one prompt may have more.
        """
        chosen: list[list[Continuation]] = []
        passed: list[list[Continuation]] = []
        least = most = 0
        while self._queue and len(passed) < _MOST_PASSED:
            alike = [each for each in self._queue[0] if not each.end_if_cancelled()]
            if alike:
                length = len(alike[0].prompt)
                low, high = (min(least, length), max(most, length)) if chosen else (length, length)
                is_much = bool(chosen) and high * (len(chosen) + 1) > most_tokens
                if len(alike) > room or is_much:
                    break
                if high > max(_ALIKE * low, low + _FEW):
                    passed.append(alike)
                else:
                    chosen.append(alike)
                    least, most, room = low, high, room - len(alike)
            self._queue.popleft()
        self._queue.extendleft(reversed(passed))
        return chosen

    def take_all(self) -> list[Continuation]:
        """Takes all continuations."""
        found = [each for alike in self._queue for each in alike]
        self._queue.clear()
        return found

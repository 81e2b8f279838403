"""Prompts that wait to be read, and which of them are read together."""

from collections import deque
from collections.abc import Sequence

from polyprag.decoding.continuation import Continuation
from polyprag.method.batches.padded import PASS_OVERHEAD, length_groups


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

    def take(
        self, *, room: int, most_tokens: int, overhead: int = PASS_OVERHEAD
    ) -> list[list[list[Continuation]]]:
        """Takes the first prompts, in groups of similar length: a group is padded to its longest.

        Args:
            room: continuations at most; one for which there is none holds up those behind it.
            most_tokens: of all prompts; the first may have more.
            overhead: see `length_groups`.

        Returns:
            Groups of prompts, the longest first.
        """
        chosen: list[list[Continuation]] = []
        tokens = 0
        while self._queue:
            alike = [each for each in self._queue[0] if not each.end_if_cancelled()]
            if alike:
                tokens += len(alike[0].prompt)
                if len(alike) > room or (chosen and tokens > most_tokens):
                    break
                chosen.append(alike)
                room -= len(alike)
            self._queue.popleft()
        lengths = [len(each.prompt) for each, *_ in chosen]
        groups = length_groups(lengths, most_tokens, overhead=overhead)
        return [[chosen[i] for i in group] for group in reversed(groups)]

    def take_all(self) -> list[Continuation]:
        """Takes all continuations."""
        found = [each for alike in self._queue for each in alike]
        self._queue.clear()
        return found

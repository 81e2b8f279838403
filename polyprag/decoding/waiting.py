"""Prompts that wait to be read, and which of them are read together."""

from collections import deque
from collections.abc import Sequence

from polyprag.decoding.continuation import Continuation
from polyprag.method.batches.padded import PASS_OVERHEAD, length_groups
from polyprag.method.batches.prefix import SharedPrefix


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
        self,
        *,
        room: int,
        most_tokens: int,
        overhead: int = PASS_OVERHEAD,
        prefix: SharedPrefix | None = None,
    ) -> list[list[list[Continuation]]]:
        """Takes the first prompts, in groups of similar length: a group is padded to its longest.

        Args:
            room: continuations at most; one for which there is none holds up those behind it.
            most_tokens: of all prompts; the first may have more.
            overhead: see `length_groups`.
            prefix: of which nothing is read again. In a group all prompts begin with it, or none.

        Returns:
            Groups of prompts, the longest first.
        """
        chosen: list[list[Continuation]] = []
        unread: list[int] = []
        tokens = 0
        while self._queue:
            alike = [each for each in self._queue[0] if not each.end_if_cancelled()]
            if alike:
                prompt = alike[0].prompt
                goes_on = prefix is not None and prefix.begins(prompt)
                more = len(prompt) - (len(prefix) if prefix and goes_on else 0)
                if len(alike) > room or (chosen and tokens + more > most_tokens):
                    break
                tokens += more
                chosen.append(alike)
                unread.append(more)
                room -= len(alike)
            self._queue.popleft()
        kinds: tuple[list[int], list[int]] = ([], [])  # whole, and after the prefix
        for i, (each, *_) in enumerate(chosen):
            kinds[unread[i] < len(each.prompt)].append(i)
        groups = [
            [kind[i] for i in group]
            for kind in kinds
            for group in length_groups([unread[i] for i in kind], most_tokens, overhead=overhead)
        ]
        groups.sort(key=lambda group: unread[group[-1]], reverse=True)
        return [[chosen[i] for i in group] for group in groups]

    def take_all(self) -> list[Continuation]:
        """Takes all continuations."""
        found = [each for alike in self._queue for each in alike]
        self._queue.clear()
        return found

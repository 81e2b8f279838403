"""What a model thinks before it answers, `<think>...</think>`, told apart from the answer."""

import re

_THINKING = re.compile(
    r"<(think|thinking|thought|reasoning|reflection)\b[^>]*>.*?(?:</\1>|\Z)"
    r"|\[THINK\].*?(?:\[/THINK\]|\Z)|<\|channel\|>analysis.*?(?:<\|channel\|>final<\|message\|>|\Z)",
    re.S | re.I,
)
_END_OF_THINKING = re.compile(
    r"\A(?:(?!<think).)*</(?:think|thinking|thought|reasoning)>", re.S | re.I
)
_TAG = re.compile(r"</?(?:think|thinking|thought|reasoning|reflection)\b[^>]*>|\[/?THINK\]", re.I)
_TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))


def without_thinking(text: str) -> str:
    """Returns a text without what the model thought before it: blocks, or all up to their end."""
    return _END_OF_THINKING.sub("", _THINKING.sub("", text)).strip()


def split_thinking(text: str) -> tuple[str, str]:
    """Returns what was thought, and the answer, both stripped."""
    blocks = [found[0] for found in _THINKING.finditer(text)]
    if begun := _END_OF_THINKING.match(_THINKING.sub("", text)):
        blocks.insert(0, begun[0])
    thought = (_TAG.sub("", block).strip() for block in blocks)
    return "\n".join(filter(None, thought)), without_thinking(text)


class ThinkingStream:
    """Tells thinking from the answer while a text comes in pieces.

    One block at the beginning, in `<think>` or `[THINK]`; what may be the start of a tag is held
    back until it is known.
    """

    def __init__(self, *, is_inside: bool = False) -> None:
        """Takes whether the prompt has begun the block already."""
        self._place = "inside" if is_inside else "before"
        self._held, (_, self._end) = "", _TAGS[0]

    def put(self, piece: str) -> tuple[str, str]:
        """Returns what a piece adds to the thinking, and to the answer."""
        if self._place == "after":
            return "", piece
        self._held += piece
        if self._place == "before":
            begun = self._held.lstrip()
            for start, end in _TAGS:
                if begun.startswith(start):
                    self._place, self._end = "inside", end
                    self._held = begun[len(start) :]
                elif start.startswith(begun):
                    return "", ""
            if self._place == "before":
                return "", self._rest()
        thought, end, answer = self._held.partition(self._end)
        if end:
            self._place, self._held = "after", ""
            return thought, answer
        longest = min(len(self._end) - 1, len(thought))
        kept = next((n for n in range(longest, 0, -1) if self._end.startswith(thought[-n:])), 0)
        self._held = thought[len(thought) - kept :]
        return thought[: len(thought) - kept], ""

    def end(self) -> tuple[str, str]:
        """Returns what was held back, when nothing comes any more."""
        is_inside, held = self._place == "inside", self._rest()
        return (held, "") if is_inside else ("", held)

    def _rest(self) -> str:
        rest, self._held = self._held, ""
        self._place = "after"
        return rest


def begins_thinking(prompt: str) -> bool:
    """Tells whether a prompt has begun the block, as some chat templates do."""
    return prompt.rstrip().endswith(tuple(start for start, _ in _TAGS))

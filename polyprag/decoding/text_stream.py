"""A sequence's text as its tokens come, up to where a text ends it."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_UNFINISHED = "\ufffd"  # what the first bytes of a character decode to
_MOST_UNFINISHED = 8  # tokens; more of them aren't one character


class TextStream:
    """Decodes token after token, and looks for what ends the text.

    A token's text may depend on the one before it (a space that begins a word), so each is decoded
    with its predecessors since the last piece that was whole.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()) -> None:
        """Takes what turns ids into text, and what ends it."""
        self._decode, self._stops = _decoding(tokenizer), tuple(stops)
        self._ids: list[int] = []
        self._known = 0  # ids whose text is in `_text`
        self._base = 0  # ids before those that the next piece is decoded with
        self._text = ""
        self._given = 0  # characters that were handed out
        self.is_stopped = False

    @property
    def text(self) -> str:
        """All of it so far; without what ended it."""
        return self._text

    def put(self, token: int) -> str:
        """Returns what the token adds for certain; it may be held back for the next ones."""
        self._ids.append(token)
        context = self._decoded(self._ids[self._base : self._known])
        whole = self._decoded(self._ids[self._base :])
        waits = len(self._ids) - self._known < _MOST_UNFINISHED
        if waits and whole.endswith(_UNFINISHED):
            return ""
        self._base, self._known = self._known, len(self._ids)
        before = len(self._text)
        self._text += whole[len(context) :]
        self._stop(before)
        return self._certain(len(self._text) - self._held_back())

    def end(self) -> str:
        """Returns the rest when no token comes any more."""
        if not self.is_stopped and self._known < len(self._ids):
            context = self._decoded(self._ids[self._base : self._known])
            self._text += self._decoded(self._ids[self._base :])[len(context) :]
            self._known = len(self._ids)
        return self._certain(len(self._text))

    def _stop(self, before: int) -> None:
        found = [
            at
            for stop in self._stops
            if (at := self._text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if found:
            self._text, self.is_stopped = self._text[: min(found)], True

    def _held_back(self) -> int:
        """Returns how many characters of the end may be the beginning of a stop."""
        if self.is_stopped:
            return 0
        longest = 0
        for stop in self._stops:
            for number in range(min(len(stop) - 1, len(self._text)), longest, -1):
                if self._text.endswith(stop[:number]):
                    longest = number
                    break
        return longest

    def _certain(self, until: int) -> str:
        piece = self._text[self._given : max(until, self._given)]
        self._given += len(piece)
        return piece

    def _decoded(self, ids: Sequence[int]) -> str:
        return self._decode(list(ids)) if ids else ""


def _decoding(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], str]:
    """Returns `tokenizer.decode` without special tokens; the library's own where it is the same."""
    is_plain = type(tokenizer).decode is PreTrainedTokenizerFast.decode and (
        type(tokenizer)._decode is PreTrainedTokenizerFast._decode
    )
    if is_plain and not getattr(tokenizer, "clean_up_tokenization_spaces", True):
        decode = tokenizer.backend_tokenizer.decode
        return lambda ids: str(decode(ids, skip_special_tokens=True))  # an eighth of the time
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True))

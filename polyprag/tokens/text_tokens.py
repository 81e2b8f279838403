"""Token ids of text from anywhere: what reads like a special token is letters like any others.

A tokenizer finds special tokens in any text that it is given. A passage with EOS in it would end
its example, and one with a chat template's tokens would forge a turn.
"""

import json
import re
import threading
from collections.abc import Collection, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from polyprag.tokens.control_tokens import control_tokens


class TextTokenizer:
    """A tokenizer to which a text is data, while the markup around it is not.

    Text without anything like a special token gets the ids that the tokenizer itself gives to text
    and markup together. Several threads may use it at once.

    Attributes:
        control_ids: of the tokens that no text may have.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, markup: Sequence[str] = ()) -> None:
        """Tokenises next to nothing yet.

        Args:
            tokenizer: a language model's.
            markup: the pieces that each text comes between, in which special tokens are live.
                Without any, BOS is put before a text where the tokenizer has one; EOS never ends
                it.
        """
        self._tokenizer, self._markup = tokenizer, tuple(markup)
        self._controls = control_tokens(tokenizer)
        self.control_ids = frozenset(control.id for control in self._controls.values())
        self._pattern = _pattern_of(self._controls)
        self._lock = threading.Lock()
        self._text_only: Tokenizer | None = None  # made when a text needs it
        # A fast tokenizer drops its file's truncation and padding at its first call; were that in
        # the midst of another thread's call, it would fail ("Already borrowed").
        shown = self._live(["x".join(self._markup)], add_special_tokens=False)[0]
        self._first, self._num_last = ([], 0) if markup else self._ends()
        self._expected = self._controls_in([*self._first, *(shown if markup else ())])

    def has_control(self, text: str) -> bool:
        """Tells whether a text holds what the tokenizer would take for a special token."""
        return self._pattern.search(text) is not None

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of texts from anywhere, each with the markup around it."""
        if not texts:
            return []
        pieces = self._markup or ("", "")
        whole = [text.join(pieces) for text in texts]
        return [
            ids[: len(ids) - self._num_last]
            if not self.has_control(text)
            and self._controls_in(ids[: len(ids) - self._num_last]) == self._expected
            else self._first + self._apart([text] * (len(pieces) - 1), pieces)
            for text, ids in zip(
                texts, self._live(whole, add_special_tokens=not self._markup), strict=True
            )
        ]

    def ids_between(self, texts: Sequence[str]) -> list[int]:
        """Returns the ids of the markup with these texts between its pieces, one after the other.

        Raises:
            ValueError: there isn't one text for each place.
        """
        places = [*texts, ""]
        whole = "".join(t for pair in zip(self._markup, places, strict=True) for t in pair)
        (ids,) = self._live([whole], add_special_tokens=False)
        if any(map(self.has_control, texts)) or self._controls_in(ids) != self._expected:
            return self._apart(texts, self._markup)
        return ids

    def continuations(self, texts: Sequence[str], *, after: str) -> list[list[int]]:
        """Returns the ids of texts as they are where they follow other text.

        Tokenizers that put a space mark before a text (Llama 2's kind) put none into its midst.

        Args:
            texts: from anywhere.
            after: what comes before each: the end of a prompt, with live special tokens.
        """
        if not texts:
            return []
        before, *whole = self._live(
            [after, *(after + text for text in texts)], add_special_tokens=False
        )
        found = []
        for text, ids in zip(texts, whole, strict=True):
            own = _continued(ids, before)
            if own is None:  # one token across the seam, of which the prompt can't have a part
                own = self._live([text], add_special_tokens=False)[0]
            if self.has_control(text) or self._controls_in(own):
                own = self._text_continuation(text, after)
            found.append(own)
        return found

    def _live(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        encoded = self._tokenizer(list(texts), add_special_tokens=add_special_tokens)
        return [list(ids) for ids in encoded["input_ids"]]

    def _controls_in(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self.control_ids]

    def _ends(self) -> tuple[list[int], int]:
        """Returns what the tokenizer puts before a text, and how many tokens it puts after one."""
        (added,) = self._live(["x"], add_special_tokens=True)
        (bare,) = self._live(["x"], add_special_tokens=False)
        for at in range(len(added) if bare else 0):
            if added[at : at + len(bare)] == bare:
                return added[:at], len(added) - at - len(bare)
        return [], 0

    def _apart(self, texts: Sequence[str], markup: Sequence[str]) -> list[int]:
        """Returns the ids of texts between markup, cut where the markup has special tokens."""
        ids: list[int] = []
        pending = ""
        for number, piece in enumerate(markup):
            pending += texts[number - 1] if number else ""
            at = 0
            for match in self._pattern.finditer(piece):
                control = self._controls[match.group()]
                pending += piece[at : match.start()]
                ids += self._text_ids(pending.rstrip() if control.takes_left else pending)
                ids.append(control.id)
                pending, at = "", match.end()
                if control.takes_right:
                    at += len(piece) - at - len(piece[at:].lstrip())
            pending += piece[at:]
        return ids + self._text_ids(pending)

    def _text_continuation(self, text: str, after: str) -> list[int]:
        """Returns the ids of a text after the last of what has no special token in it."""
        ends = [match.end() for match in self._pattern.finditer(after)]
        seen = after[ends[-1] :] if ends else after
        own = _continued(self._text_ids(seen + text), self._text_ids(seen))
        return self._text_ids(text) if own is None else own

    def _text_ids(self, text: str) -> list[int]:
        """Returns the ids of what has no special token in it, whatever it reads like.

        Some vocabularies give a special token even so: what reads like one is left out then.
        """
        if not text:
            return []
        if getattr(self._tokenizer, "is_fast", False):
            ids = self._without_controls().encode(text, add_special_tokens=False).ids
        else:
            encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)
            ids = encoded["input_ids"]
        return [int(i) for i in ids if i not in self.control_ids]

    def _without_controls(self) -> Tokenizer:
        """Returns a copy of a fast tokenizer that finds no special tokens.

        A copy, because which tokens are found is a state of the tokenizer, which other threads use.
        """
        with self._lock:
            if self._text_only is None:
                backend: Any = self._tokenizer.backend_tokenizer
                stated = json.loads(backend.to_str())
                stated["truncation"] = stated["padding"] = None
                for token in stated["added_tokens"]:
                    token["special"] = token["special"] or token["content"] in self._controls
                copy = Tokenizer.from_str(json.dumps(stated))
                copy.encode_special_tokens = True
                self._text_only = copy
            return self._text_only


def _pattern_of(controls: Collection[str]) -> re.Pattern[str]:
    """Returns what finds any of the tokens, the longest one where several begin alike."""
    if not controls:
        return re.compile("(?!)")
    longest_first = sorted(controls, key=len, reverse=True)
    # Looked at first, because a tokenizer may have a thousand tokens, all with the same letter.
    letters = "".join(sorted({re.escape(control[0]) for control in controls}))
    return re.compile(f"(?=[{letters}])(?:{'|'.join(map(re.escape, longest_first))})")


def _continued(whole: list[int], before: list[int]) -> list[int] | None:
    """Returns what follows `before` in `whole`; None where that doesn't begin so."""
    return whole[len(before) :] if whole[: len(before)] == before else None

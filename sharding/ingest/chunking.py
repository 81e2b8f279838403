"""Cut long texts into passages of about as many words each.

A passage has exactly `num_words` words, but for a text's last one: what is left over makes a
passage of its own if it is half as long at least, and else goes to the passage before, which then
has less than one and a half times `num_words`. So no passage is tiny, but for texts that are.

A word is what stands between spaces. In scripts that have none between words, two characters count
as one, with the marks on them and the punctuation after them.
"""

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from sharding.ingest.rows import ParsedRows

_SPACED_WORD = re.compile(r"\S+")
# Line breaking class SA is Thai, Lao, Khmer, Myanmar and their kin.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Bopomofo}\p{lb=SA}]"
_HAS_UNSPACED: Any = regex.compile(_UNSPACED)
_WORD: Any = regex.compile(
    rf"(?:{_UNSPACED}\p{{M}}*+){{1,2}}[\p{{P}}\p{{M}}]*+|(?:(?!{_UNSPACED})\S)++"
)


def count_words(text: str) -> int:
    """Returns how many words a text has."""
    is_spaced = text.isascii() or _HAS_UNSPACED.search(text) is None
    return len(text.split()) if is_spaced else sum(1 for _ in _WORD.finditer(text))


def chunk_text(text: str, *, num_words: int) -> list[str]:
    """Returns a text's passages, cut between words; the text itself where it makes only one.

    Args:
        text: at least one word.
        num_words: words in a passage, at least 1.
    """
    is_spaced = text.isascii() or _HAS_UNSPACED.search(text) is None
    words = (_SPACED_WORD if is_spaced else _WORD).finditer(text)
    ends = [match.end() for match in words]
    num_chunks = max(1, (len(ends) + num_words // 2) // num_words)
    if num_chunks == 1:
        return [text]
    cuts = [0, *(ends[n * num_words - 1] for n in range(1, num_chunks)), len(text)]
    return [text[a:b].strip() for a, b in pairwise(cuts)]


def chunk_rows(rows: ParsedRows, *, num_words: int) -> tuple[ParsedRows, NDArray[np.int64]]:
    """Returns rows whose texts are cut, and the position of the row that each comes from.

    Their keys are `<key>#1` and so on, title and line as they were.
    """
    keys: list[str] = []
    texts: list[str] = []
    numbers: list[int] = []
    for number, (key, text) in enumerate(zip(rows.keys, rows.texts, strict=True)):
        chunks = chunk_text(text, num_words=num_words)
        numbered = [f"{key}#{n}" for n in range(1, len(chunks) + 1)]
        keys += numbered if len(chunks) > 1 else [key]
        texts += chunks
        numbers += [number] * len(chunks)
    titles = [rows.titles[number] for number in numbers]
    lines = [rows.lines[number] for number in numbers]
    cut = replace(rows, keys=keys, titles=titles, texts=texts, lines=lines)
    return cut, np.array(numbers, np.int64)

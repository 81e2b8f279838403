"""A synthetic corpus in the format and sizes of DPR's psgs_w100.tsv.

Wikipedia's file has 21,015,324 rows in 13 GB: `id text title`, tab-separated, the text of exactly
100 words in quotes with inner quotes doubled, an article's passages one after the other. Here the
words are drawn one by one from the running text of examples/popqa/passages.jsonl, so that they come
as often as they do there (Zipf's law); the titles are that file's.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from harness.examples import PASSAGES

WORDS = 100  # of a passage's text
ARTICLE = 4.0  # passages of an article, on average; Wikipedia's 21 M come from some 5 M articles

Row = tuple[str, str, str]  # id, title, text

_CHUNK = 10_000


def rows(num_passages: int, *, seed: int) -> Iterator[Row]:
    """The corpus's passages, the same for the same seed; a longer corpus begins like a shorter one.

    Args:
        num_passages: How many; their ids are "1" and up.
        seed: Of the words and titles.

    Yields:
        Id, title and text.
    """
    source = [json.loads(line) for line in PASSAGES.read_text(encoding="utf-8").splitlines()]
    words = np.array([word for row in source for word in row["text"].split()], dtype=object)
    titles = [row["title"] for row in source]
    generator = np.random.default_rng(seed)
    title = titles[0]
    for first in range(0, num_passages, _CHUNK):
        drawn = words[generator.integers(len(words), size=(_CHUNK, WORDS))]
        begins = generator.random(_CHUNK) < 1 / ARTICLE
        chosen = generator.integers(len(titles), size=_CHUNK)
        for offset in range(min(_CHUNK, num_passages - first)):
            if begins[offset]:
                title = titles[chosen[offset]]
            yield str(first + offset + 1), title, " ".join(drawn[offset])


def write_tsv(path: Path, num_passages: int, *, seed: int) -> None:
    """Writes the corpus as DPR's file, a header and `num_passages` rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("id\ttext\ttitle\n")
        for key, title, text in rows(num_passages, seed=seed):
            quoted = _quoted(title) if '"' in title else title
            file.write(f"{key}\t{_quoted(text)}\t{quoted}\n")


def read_tsv(path: Path) -> Iterator[Row]:
    """The file's passages again, as an independent reader sees them."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter="\t", strict=True)
        next(reader)
        for key, text, title in reader:
            yield key, title, text


def totals(passages: Iterable[Row]) -> dict[str, int]:
    """Sums over passages in any order, to see that a system has read all of them, each once."""
    count = ids = characters = 0
    for key, title, text in passages:
        count += 1
        ids += int(key)
        characters += len(title) + len(text)
    return {"passages": count, "ids": ids, "characters": characters}


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'

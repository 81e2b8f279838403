"""Finds the passages that question-answer pairs belong to, in one pass over a corpus.

A pair belongs to the passage with its key; else to each one that holds its text, or that its text
holds together with the answer (a document that was cut into passages); else to the one of its title
that holds the answer. Of a passage `Handbook > Leave > Sick leave` that title is all of it, or else
its last headings (`Sick leave`, `Leave > Sick leave`), or else the document's (`Handbook`). Texts
are compared as words, in lower case and whatever their spaces. They are found by runs of a few
words, kept in a dictionary, so that a pass costs time in proportion to the corpus and not to the
number of pairs.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from polyprag.augment.pairs.pair import Pair
from polyprag.augment.prose.topic import PATH
from polyprag.augment.worded import holds, worded
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import QA, Passage
from sharding.corpus.reader import Corpus

_RUN = 8  # words that a text is looked up by; all of it where it is shorter
_MOST = 8  # passages that may hold a text; one in more says too little of where it belongs


@dataclass(slots=True)
class Matched:
    """Which pairs belong where.

    Attributes:
        pairs: by partition and passage id, each question once.
        num_matched: pairs that belong to a passage.
        unmatched: those that don't, with the reason.
    """

    pairs: dict[int, dict[int, tuple[QA, ...]]] = field(default_factory=dict)
    num_matched: int = 0
    unmatched: list[tuple[Pair, str]] = field(default_factory=list)


def match_pairs(corpus: Corpus, pairs: Iterable[Pair]) -> Matched:
    """Returns the pairs by the passages of a corpus.

    Args:
        corpus: prepared; its removed passages have no pairs.
        pairs: see `polyprag.augment.pairs.read.read_pairs`.

    Raises:
        CorpusError: a shard is damaged.
    """
    wanted = list(pairs)
    finder = _Finder(wanted)
    by_key: dict[int, list[int]] = defaultdict(list)  # ids of passages by pair
    by_text: dict[int, list[int]] = defaultdict(list)
    by_title: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))  # and rank
    for record in corpus.iterate():
        passage = record.passage
        if passage.is_removed:
            continue
        for number in finder.by_key(passage):
            by_key[number].append(passage.id)
        for number in finder.by_text(passage):
            by_text[number].append(passage.id)
        for number, rank in finder.by_title(passage):
            by_title[number][rank].append(passage.id)
    matched = Matched()
    by_passage: dict[int, list[QA]] = defaultdict(list)
    for number, pair in enumerate(wanted):
        titled = by_title[number]
        ids = by_key[number] or by_text[number] or (titled[min(titled)] if titled else [])
        why = finder.unmatched(number, len(ids))
        if why is not None:
            matched.unmatched.append((pair, why))
            continue
        matched.num_matched += 1
        for passage_id in ids:
            by_passage[passage_id].append(pair.qa)
    matched.pairs = _by_partition(corpus.manifest, by_passage)
    return matched


class _Finder:
    """Pairs by what tells their passages."""

    def __init__(self, pairs: list[Pair]) -> None:
        self._pairs = pairs
        self._by_key: dict[str, list[int]] = defaultdict(list)
        self._by_title: dict[str, list[int]] = defaultdict(list)
        self._texts: dict[str, list[int]] = defaultdict(list)
        for number, pair in enumerate(pairs):
            if pair.key is not None:
                self._by_key[pair.key].append(number)
            if pair.text is not None:
                self._texts[pair.text].append(number)
                self._by_key[pair.text].append(number)  # `passage` may be a key as well
            elif pair.title is not None:
                self._by_title[worded(pair.title)].append(number)
        self._begins: dict[tuple[str, ...], list[str]] = defaultdict(list)
        self._runs: dict[tuple[str, ...], set[str]] = defaultdict(set)
        self._words = {text: tuple(worded(text).split()) for text in self._texts}
        for text, words in self._words.items():
            self._begins[words[:_RUN]].append(text)
            for run in _windows(words, _RUN):
                self._runs[run].add(text)
        self._lengths = {len(run) for run in self._begins} - {0}

    def by_key(self, passage: Passage) -> list[int]:
        """Returns the numbers of the pairs with a passage's key."""
        return self._by_key.get(passage.key, [])

    def by_text(self, passage: Passage) -> set[int]:
        """Returns the numbers of the pairs that a passage's text tells."""
        return self._of_text(passage) if self._texts else set()

    def by_title(self, passage: Passage) -> Iterator[tuple[int, int]]:
        """Yields the numbers of the pairs that its title tells, and how well: 0 is best."""
        if not self._by_title:
            return
        text = worded(passage.text)
        for title, rank in _titles_of(passage.title):
            for number in self._by_title.get(title, ()):
                if holds(text, worded(self._pairs[number].qa.answer)):
                    yield number, rank

    def unmatched(self, number: int, num_found: int) -> str | None:
        """Returns why a pair belongs nowhere; None where it belongs somewhere."""
        pair = self._pairs[number]
        by = "text" if pair.text is not None else "title" if pair.title is not None else "key"
        if num_found == 0:
            answer = " that holds its answer" if by == "title" else ""
            return f"no passage has its {by}{answer}"
        if num_found > _MOST:
            return f"{num_found:,} passages have its {by}: give more of it, or the passage's key"
        return None

    def _of_text(self, passage: Passage) -> set[int]:
        shown = worded(f"{passage.title} {passage.text}")
        words = tuple(shown.split())
        texts: set[str] = set()
        for length in self._lengths:
            for run in _windows(words, length):
                for text in self._begins.get(run, ()):
                    if holds(shown, " ".join(self._words[text])):
                        texts.add(text)
        numbers = {number for text in texts for number in self._texts[text]}
        inside = worded(passage.text)
        for text in self._runs.get(tuple(inside.split()[:_RUN]), set()) - texts:
            if holds(" ".join(self._words[text]), inside):
                numbers |= {
                    number
                    for number in self._texts[text]
                    if holds(inside, worded(self._pairs[number].qa.answer))
                }
        return numbers


def _titles_of(title: str) -> Iterator[tuple[str, int]]:
    """Yields what a passage's title may be called, worded: all of it, headings, the document."""
    names = title.split(PATH)
    yield worded(title), 0
    if len(names) > 1:
        yield from ((worded(PATH.join(names[start:])), 1) for start in range(1, len(names)))
        yield worded(names[0]), 2


def _windows(words: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    for start in range(len(words) - length + 1):
        yield words[start : start + length]


def _by_partition(
    manifest: CorpusManifest, by_passage: dict[int, list[QA]]
) -> dict[int, dict[int, tuple[QA, ...]]]:
    """Returns the pairs by partition and passage; of equal questions about one, the first."""
    found: dict[int, dict[int, tuple[QA, ...]]] = defaultdict(dict)
    first_ids = [partition.first_id for partition in manifest.partitions]
    for passage_id, qas in sorted(by_passage.items()):
        once = {worded(qa.question): qa for qa in reversed(qas)}
        index = bisect_right(first_ids, passage_id) - 1
        found[index][passage_id] = tuple(reversed(once.values()))
    return dict(found)

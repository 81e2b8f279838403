"""BM25 (Lucene's variant) over titles and texts, kept by bm25s as memory-mapped arrays."""

import math
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import bm25s
import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.index.analysis import Analyzer
from polyprag.index.fusion import Ranking, best_of_scores
from sharding.files import read_json, write_json

_SETTINGS = "settings.json"


def write_bm25(
    directory: Path,
    titled_texts: Iterable[tuple[str, str]],
    *,
    analyzer: Analyzer,
    k1: float,
    b: float,
    title_weight: int,
) -> None:
    """Scores every term of every passage and writes the index.

    Args:
        directory: an existing, empty directory.
        titled_texts: (title, text) of passages 0, 1, ...; held as 4 bytes a term.
        analyzer: saved with the index.
        k1: term frequency saturation.
        b: how far length is normalised, 0 to 1.
        title_weight: how often the title's terms count.
    """
    vocabulary = {"": 0}  # bm25s wants a term even where no passage has one
    terms_of_passages = []
    for title, text in titled_texts:
        terms = weighted_terms(analyzer, title, text, title_weight=title_weight)
        terms_of_passages.append(
            array("i", (vocabulary.setdefault(term, len(vocabulary)) for term in terms))
        )
    retriever = bm25s.BM25(k1=k1, b=b, method="lucene")
    with np.errstate(invalid="ignore"):  # no passage has a term: a mean length of 0
        retriever.index(
            (terms_of_passages, vocabulary), create_empty_token=False, show_progress=False
        )
    retriever.save(directory, allow_pickle=False)
    mean_length = sum(map(len, terms_of_passages)) / max(len(terms_of_passages), 1)
    settings = {"analyzer": analyzer.settings, "mean_length": mean_length, "k1": k1, "b": b}
    write_json(directory / _SETTINGS, settings)


def weighted_terms(analyzer: Analyzer, title: str, text: str, *, title_weight: int) -> list[str]:
    """The terms of a passage, those of its title several times."""
    return analyzer.terms(title) * title_weight + analyzer.terms(text)


def idf(num_with_term: int, num_passages: int) -> float:
    """Lucene's inverse document frequency."""
    return math.log(1 + (num_passages - num_with_term + 0.5) / (num_with_term + 0.5))


class BM25Index:
    """An opened BM25 index; only what a query touches is read from disk.

    Attributes:
        analyzer: text to terms, as it was built.
        num_passages: N.
        mean_length: terms of a passage.
        k1: term frequency saturation.
        b: how far length is normalised.
    """

    def __init__(
        self, retriever: Any, analyzer: Analyzer, *, mean_length: float, k1: float, b: float
    ) -> None:
        """Wraps a loaded bm25s retriever; `open` loads one."""
        self._retriever, self.analyzer = retriever, analyzer
        self.num_passages = int(retriever.scores["num_docs"])
        self.mean_length, self.k1, self.b = mean_length, k1, b

    @classmethod
    def open(cls, directory: Path, *, num_passages: int) -> Self:
        """Maps what `write_bm25` wrote.

        Raises:
            RunError: it is damaged, or of another number of passages.
        """
        settings = read_json(directory / _SETTINGS)
        if not isinstance(settings, dict):
            raise RunError(f"{directory / _SETTINGS}: not an object; {_REMEDY}")
        analyzer = Analyzer.from_settings(
            settings.get("analyzer"), where=str(directory / _SETTINGS)
        )
        try:
            numbers = {name: float(settings[name]) for name in ("mean_length", "k1", "b")}
            retriever = bm25s.BM25.load(
                directory, mmap=True, allow_pickle=False, backend="numpy", show_progress=False
            )
            # As plain arrays over the same maps: the memmap class costs a call a slice.
            scores = {
                name: np.asarray(retriever.scores[name]) for name in ("data", "indices", "indptr")
            }
            sound = (
                retriever.scores["num_docs"] == num_passages
                and scores["data"].shape == scores["indices"].shape == (scores["indptr"][-1],)
                and len(scores["indptr"]) == len(retriever.vocab_dict) + 1
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise RunError(
                f"{directory}: not a readable BM25 index ({error}); {_REMEDY}"
            ) from error
        if not sound:
            raise RunError(f"{directory}: its arrays don't fit together; {_REMEDY}")
        retriever.scores.update(scores)
        return cls(retriever, analyzer, **numbers)

    def num_with(self, term: str) -> int:
        """How many passages have a term."""
        ids = self._retriever.get_tokens_ids([term])
        if not ids:
            return 0
        indptr = self._retriever.scores["indptr"]
        return int(indptr[ids[0] + 1] - indptr[ids[0]])

    def scores(self, terms: Sequence[str]) -> npt.NDArray[np.float32]:
        """The score (N,) of every passage; a repeated term counts as often as it is repeated."""
        term_ids = self._retriever.get_tokens_ids(terms)
        scores: npt.NDArray[np.float32] = self._retriever.get_scores_from_ids(term_ids)
        return scores

    def search(self, query: str, *, k: int) -> Ranking:
        """The best k passages that share a term with the query; fewer where fewer do."""
        return best_of_scores(self.scores(self.analyzer.terms(query)), k=k)


_REMEDY = "run `polyprag index RUN` again"

"""BM25 (Lucene's variant) over titles and texts, kept by bm25s as memory-mapped arrays."""

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import bm25s
import numpy as np

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
        terms = analyzer.terms(title) * title_weight + analyzer.terms(text)
        terms_of_passages.append(
            array("i", (vocabulary.setdefault(term, len(vocabulary)) for term in terms))
        )
    retriever = bm25s.BM25(k1=k1, b=b, method="lucene")
    with np.errstate(invalid="ignore"):  # no passage has a term: a mean length of 0
        retriever.index(
            (terms_of_passages, vocabulary), create_empty_token=False, show_progress=False
        )
    retriever.save(directory, allow_pickle=False)
    write_json(directory / _SETTINGS, {"analyzer": analyzer.settings})


class BM25Index:
    """An opened BM25 index; only what a query touches is read from disk."""

    def __init__(self, retriever: Any, analyzer: Analyzer) -> None:
        """Wraps a loaded bm25s retriever; `open` loads one."""
        self._retriever, self._analyzer = retriever, analyzer

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
        return cls(retriever, analyzer)

    def search(self, query: str, *, k: int) -> Ranking:
        """The best k passages that share a term with the query; fewer where fewer do."""
        term_ids = self._retriever.get_tokens_ids(self._analyzer.terms(query))
        return best_of_scores(self._retriever.get_scores_from_ids(term_ids), k=k)


_REMEDY = "run `polyprag index RUN` again"

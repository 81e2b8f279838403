"""The lexical rivals of retrieval, each built over (title, text) passages and then searched."""

from collections.abc import Sequence
from typing import Any, Protocol

import bm25s
import numpy as np
import numpy.typing as npt
import Stemmer
from rank_bm25 import BM25Okapi
from sklearn.feature_extraction.text import TfidfVectorizer

_BATCH = 64  # questions whose scores of all passages are held at once


class Searcher(Protocol):
    """Finds the ids of the best k passages of each question, best first."""

    def search(self, questions: Sequence[str], *, k: int) -> list[list[int]]:
        """Text in, ids out: whatever lies between is part of the search."""


def joined(passages: Sequence[tuple[str, str]]) -> list[str]:
    """A passage's title and text as one text."""
    return [f"{title}\n{text}" for title, text in passages]


def best(scores_N: npt.NDArray[Any], *, k: int) -> list[int]:
    """The ids of the best k of N scores above 0, best first; equal ones by id."""
    threshold = np.partition(scores_N, -k)[-k] if k < len(scores_N) else 0
    candidates = np.flatnonzero((scores_N >= threshold) & (scores_N > 0))
    found: list[int] = candidates[np.argsort(-scores_N[candidates], kind="stable")][:k].tolist()
    return found


class Bm25s:
    """bm25s with its own tokeniser: English stop words, Snowball stems, Lucene's BM25.

    Args:
        passages: (title, text).
        backend: numpy or numba.
        threads: 0, bm25s's default, for one; -1 for all cores.
    """

    def __init__(
        self, passages: Sequence[tuple[str, str]], *, backend: str, threads: int = 0
    ) -> None:
        self._threads = threads
        self._stemmer = Stemmer.Stemmer("english")
        self._retriever = bm25s.BM25(method="lucene", k1=0.9, b=0.4, backend=backend)
        self._retriever.index(self._tokens(joined(passages), ids=True), show_progress=False)

    def _tokens(self, texts: Sequence[str], *, ids: bool) -> Any:
        return bm25s.tokenize(
            list(texts),
            stopwords="en",
            stemmer=self._stemmer,
            return_ids=ids,
            show_progress=False,
        )

    def search(self, questions: Sequence[str], *, k: int) -> list[list[int]]:
        """See `Searcher`; what scores 0 isn't a hit."""
        ids_QK, scores_QK = self._retriever.retrieve(
            self._tokens(questions, ids=True), k=k, show_progress=False, n_threads=self._threads
        )
        return [ids[scores > 0].tolist() for ids, scores in zip(ids_QK, scores_QK, strict=True)]


class RankBm25:
    """rank-bm25's BM25Okapi as it comes, on bm25s's tokens."""

    def __init__(self, passages: Sequence[tuple[str, str]]) -> None:
        self._stemmer = Stemmer.Stemmer("english")
        self._rank = BM25Okapi(self._tokens(joined(passages)))

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        tokens: list[list[str]] = bm25s.tokenize(
            list(texts), stopwords="en", stemmer=self._stemmer, return_ids=False,
            show_progress=False,
        )  # fmt: skip
        return tokens

    def search(self, questions: Sequence[str], *, k: int) -> list[list[int]]:
        """See `Searcher`."""
        return [best(self._rank.get_scores(tokens), k=k) for tokens in self._tokens(questions)]


class TfIdf:
    """scikit-learn's TF-IDF and the cosine, by a product of sparse matrices."""

    def __init__(self, passages: Sequence[tuple[str, str]]) -> None:
        self._vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
        self._terms_VN = self._vectorizer.fit_transform(joined(passages)).T.tocsr()

    def search(self, questions: Sequence[str], *, k: int) -> list[list[int]]:
        """See `Searcher`."""
        questions_QV = self._vectorizer.transform(questions)
        found = []
        for start in range(0, questions_QV.shape[0], _BATCH):
            scores_BN = (questions_QV[start : start + _BATCH] @ self._terms_VN).toarray()
            found += [best(scores_N, k=k) for scores_N in scores_BN]
        return found

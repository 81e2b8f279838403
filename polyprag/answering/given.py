"""Passages that come with a question, in a search's place."""

from collections.abc import Sequence

import numpy as np

from polyprag.method.prompts import TitledText
from polyprag.retrieval.results import Hits
from polyprag.retrieval.search import Index
from sharding.corpus.passages import Passage

NOT_IN_CORPUS = -1  # the id of a passage that isn't in the index


def hits_of(index: Index, passages: Sequence[TitledText]) -> Hits:
    """Returns given passages as hits of equal score, found in the index by title and text.

    Args:
        index: to look in.
        passages: such as a question's supporting passages.

    Returns:
        The passages in their order. Those not in the corpus have the id `NOT_IN_CORPUS`; the
        rows are None unless all are in it.
    """
    found = [index.find(passage.title, passage.text) for passage in passages]
    ids = np.asarray([NOT_IN_CORPUS if i is None else i for i in found], dtype=np.int64)
    return Hits(
        ids=ids,
        scores=np.ones(len(ids), dtype=np.float32),
        rows=index.rows_of(ids) if NOT_IN_CORPUS not in ids else None,
        passages=tuple(
            Passage(id=int(i), key="", title=passage.title, text=passage.text)
            if i == NOT_IN_CORPUS
            else index.passage(int(i))
            for i, passage in zip(ids, passages, strict=True)
        ),
    )


def hits_of_ids(index: Index, ids: Sequence[int]) -> Hits:
    """Returns the passages of ids as hits of equal score.

    Raises:
        IndexError: there is no such passage, or it was removed.
    """
    wanted = np.asarray(ids, dtype=np.int64)
    return Hits(
        ids=wanted,
        scores=np.ones(len(ids), dtype=np.float32),
        rows=index.rows_of(wanted),
        passages=tuple(index.passage(i) for i in ids),
    )

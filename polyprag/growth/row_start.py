"""Where the rows of new passages start: at zero, at their neighbours' mean, or at random codes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from polyprag.config import Config
from polyprag.errors import RunError
from polyprag.retrieval.search import Index
from sharding.corpus.manifest import Partition
from sharding.corpus.passages import Passage
from sharding.rows.part import init_rows

_SPARE = 64  # hits beyond k, where some may not count


def start_rows(
    partition: Partition,
    passages: Sequence[Passage],
    config: Config,
    *,
    shape: tuple[int, int],
    index: Index | None = None,
    below: int | None = None,
) -> npt.NDArray[np.float32]:
    """Returns where the rows of one partition start, by `add.init`.

    Args:
        partition: of new passages.
        passages: the n passages of it.
        config: for `add`, `router.init_std`, `train.seed` and `retrieval.method`.
        shape: (S, K) of the pool.
        index: to find neighbours in; needed for `neighbours` only.
        below: the first id that is new, for `neighbours`; default the partition's first.

    Returns:
        (n, S, K) float32; zeros at removed passages.

    Raises:
        RunError: neighbours are wanted and there is no index, or it has no rows.
    """
    sites, experts = shape
    start_nSK = np.zeros((len(passages), sites, experts), np.float32)
    if config.add.init == "random":
        start_nSK = init_rows(
            partition,
            sites=sites,
            experts=experts,
            std=config.router.init_std,
            seed=config.train.seed,
        ).rows
    elif config.add.init == "neighbours":
        if index is None or not index.has_rows:
            raise RunError(
                "add.init=neighbours needs an index with this encoding's routing rows: run "
                "`polyprag index RUN`, or set add.init=zeros"
            )
        start_nSK = neighbour_rows(
            index,
            passages,
            shape=shape,
            k=config.add.num_neighbours,
            below=partition.first_id if below is None else below,
            method=config.retrieval.method,
        )
    start_nSK[[passage.is_removed for passage in passages]] = 0.0
    return start_nSK


def neighbour_rows(
    index: Index,
    passages: Sequence[Passage],
    *,
    shape: tuple[int, int],
    k: int,
    below: int,
    method: str = "bm25",
) -> npt.NDArray[np.float32]:
    """Returns the mean row of each passage's k nearest passages, or zeros where it has none.

    Args:
        index: with rows; removed passages are never found.
        passages: n of them; title and text are the query.
        shape: (S, K) of the index's rows.
        k: neighbours at most.
        below: only passages of lower ids are neighbours, so that neither a passage itself nor
            others that join with it count, and a repeated command starts from the same rows.
        method: `retrieval.method`.

    Returns:
        (n, S, K) float32.
    """
    start_nSK = np.zeros((len(passages), *shape), np.float32)
    asked = [i for i, passage in enumerate(passages) if not passage.is_removed]
    queries = [f"{passages[i].title} {passages[i].text}" for i in asked]
    depth = k + min(max(index.num_passages - below, 0), _SPARE)
    for i, hits in zip(asked, index.search(queries, k=depth, method=method), strict=True):
        older = hits.ids < below
        if hits.rows is not None and older.any():
            start_nSK[i] = hits.rows[older][:k].mean(axis=0)
    return start_nSK

"""The mixture of experts that retrieved passages give to a question, also in the controls.

k passages, S sites, K experts.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch

from polyprag.answering.controls import other_passages, random_rows
from polyprag.answering.modes import Mode
from polyprag.config import Config, RouterConfig
from polyprag.errors import RunError
from polyprag.method.experts import ExpertPool
from polyprag.method.mixture import mix_gates
from polyprag.method.mixture import weights as weights_of
from polyprag.method.router import gates as gates_of_rows
from polyprag.retrieval.results import Hits
from polyprag.retrieval.search import Index

NO_INDEX = "this run was opened without its index: run `polyprag index RUN` first"


def mixture_of(
    question: str,
    hits: Hits,
    *,
    mode: Mode,
    pool: ExpertPool,
    index: Index | None,
    router: RouterConfig,
    config: Config,
    never: Collection[int],
) -> torch.Tensor:
    """Returns one question's (S, K) float32 gates; zeros (the base alone) without any hit.

    Args:
        question: decides which other passages `poly-wrong-row` takes, and what is drawn.
        hits: its passages.
        mode: one that mixes the rows of hits.
        pool: whose experts are mixed.
        index: has the rows of other passages; needed by `poly-wrong-row`.
        router: how rows become gates.
        config: `retrieval`, and `train.seed` for the controls.
        never: ids of passages whose rows `poly-wrong-row` may not use.

    Raises:
        RunError: there are no rows.
    """
    if mode == "poly-wrong-row" and len(hits.ids):
        if index is None:
            raise RunError(NO_INDEX)
        others = other_passages(
            question,
            num_wanted=len(hits.ids),
            num_passages=index.num_passages,
            barred={*hits.ids.tolist(), *never, *index.removed},
            seed=config.train.seed,
        )
        hits = replace(hits, rows=index.rows_of(others))
    elif mode == "poly-random-row" and len(hits.ids) and hits.rows is not None:
        rows_kSK = random_rows(question, hits.rows, ids=hits.ids, seed=config.train.seed)
        hits = replace(hits, rows=rows_kSK)
    elif mode == "poly-uniform" and hits.rows is not None:
        hits = replace(hits, rows=np.ones_like(hits.rows))
    weights_k = weights_of(torch.from_numpy(hits.scores), config.retrieval)
    return mixture_of_hits(hits, weights_k, mode=mode, pool=pool, router=router)


def mixture_of_hits(
    hits: Hits, weights_k: torch.Tensor, *, mode: Mode, pool: ExpertPool, router: RouterConfig
) -> torch.Tensor:
    """Returns (S, K) float32 gates: those of k passages' rows, each as often as its weight says.

    Args:
        hits: the passages; without any, the gates are zeros, which are the base alone.
        weights_k: (k,) float32.
        mode: that needs them.
        pool: whose experts are mixed.
        router: how rows become gates.

    Raises:
        RunError: there are no rows.
    """
    if len(hits.ids) == 0:
        return torch.zeros(pool.num_sites, pool.num_experts)
    if hits.rows is None:
        raise RunError(
            f"{mode} needs the passages' routing rows and the index has none for them: run "
            "`polyprag encode RUN`, then `polyprag index RUN`"
        )
    gates_kSK = gates_of_rows(torch.from_numpy(np.asarray(hits.rows)), router)
    return mix_gates(gates_kSK, weights_k)

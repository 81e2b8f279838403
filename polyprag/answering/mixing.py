"""The mixture of experts that retrieved passages give to a question, also in the controls.

k passages, S sites, K experts.
"""

from collections.abc import Collection

import numpy as np
import torch

from polyprag.answering.controls import other_passages, random_rows
from polyprag.answering.modes import Mode
from polyprag.config import Config, RouterConfig
from polyprag.errors import RunError
from polyprag.method.experts import ExpertPool
from polyprag.method.mixture import mix_gates
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
    if len(hits.ids) == 0:
        return torch.zeros(pool.num_sites, pool.num_experts)
    rows_kSK = hits.rows
    if rows_kSK is None:
        raise RunError(
            f"{mode} needs the passages' routing rows and the index has none for them: run "
            "`polyprag encode RUN`, then `polyprag index RUN`"
        )
    if mode == "poly-wrong-row":
        if index is None:
            raise RunError(NO_INDEX)
        others = other_passages(
            question,
            num_wanted=len(hits.ids),
            num_passages=index.num_passages,
            barred={*hits.ids.tolist(), *never, *index.removed},
            seed=config.train.seed,
        )
        rows_kSK = index.rows_of(others)
    elif mode == "poly-random-row":
        rows_kSK = random_rows(question, rows_kSK, ids=hits.ids, seed=config.train.seed)
    elif mode == "poly-uniform":
        rows_kSK = np.ones_like(rows_kSK)
    gates_kSK = gates_of_rows(torch.from_numpy(np.asarray(rows_kSK)), router)
    return mix_gates(gates_kSK, torch.from_numpy(hits.scores), config.retrieval).float()

"""A routing map distilled from the corpus's own questions and their passages' routing rows.

Each question that `augment` wrote is paired with the gates of the passage it asks about: what
retrieval gives where it finds that passage (for 98 % of them, in the quickstart).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from polyprag.config import Config
from polyprag.encoding.reader import DIVERGED, Encoding
from polyprag.errors import RunError
from polyprag.method.finite import rows_not_finite
from polyprag.method.router import gates as gates_of_rows
from polyprag.retrieval.query_encoder import query_encoder
from polyprag.routed.map import fit_map, num_fitted_on
from polyprag.routed.map_file import MadeOf, MapSettings, save_map
from polyprag.run_dir import CORPUS
from sharding.corpus.reader import Corpus
from sharding.shown_progress import ShowProgress, show_nothing
from sharding.storage.cache import cache_for
from sharding.storage.files import join

_HIDDEN_PER_PASSAGE, _MAX_HIDDEN = 2, 16384
_AT_A_TIME = 4096  # questions that are encoded at once


@dataclass(frozen=True, slots=True)
class Distilled:
    """What a distillation made.

    Attributes:
        settings: as saved.
        num_parameters: of the map.
        hidden: units of its hidden layer; fewer than passages can't hold them all.
        num_without: passages with a row and without a question, of which the map knows nothing.
    """

    settings: MapSettings
    num_parameters: int
    hidden: int
    num_without: int


def distill(
    run_dir: str | Path,
    config: Config,
    *,
    hidden: int | None = None,
    epochs: int,
    show: ShowProgress = show_nothing,
) -> Distilled:
    """Fits a map and writes it to RUN/router.

    Args:
        run_dir: RUN: augmented, encoded and indexed.
        config: `data.cache_*`, and `train.seed`.
        hidden: units of the map's hidden layer; by default two a passage, 16,384 at most.
        epochs: over the questions.
        show: shows the steps.

    Raises:
        RunError: the encoding or the index is missing, no passage has a question, or a row or the
            loss isn't finite.
        CorpusError: the corpus is missing or damaged.
    """
    encoding = Encoding.load(run_dir)
    encoder = query_encoder(run_dir, config)
    num_rows = encoding.manifest.num_passages
    questions, ids_n, num_live = _questions(run_dir, config, num_rows=num_rows)
    if not questions:
        raise RunError(
            f"{join(run_dir, CORPUS)}: no passage has a question to distil from: the map is made "
            "of what `polyprag augment RUN` writes before `polyprag encode`"
        )
    num_passages = len(np.unique(ids_n))
    if hidden is None:
        hidden = min(_HIDDEN_PER_PASSAGE * num_passages, _MAX_HIDDEN)
    embeddings_nD = np.empty((len(questions), encoder.encoder.dims), dtype=np.float32)
    with show(len(questions), "encoding questions", unit="questions") as advance:
        for start in range(0, len(questions), _AT_A_TIME):
            some = questions[start : start + _AT_A_TIME]
            embeddings_nD[start : start + len(some)] = encoder.encode_queries(some)
            advance(len(some))

    def gates_of(positions_b: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        rows_bSK = torch.from_numpy(encoding.rows(ids_n[positions_b]))
        if (wrong_b := rows_not_finite(rows_bSK)).any():
            passage = int(ids_n[positions_b][wrong_b][0])
            raise RunError(
                f"the encoding's row of passage {passage} isn't finite, so no map can be made of "
                f"it: {DIVERGED}"
            )
        gates_bO: npt.NDArray[np.float32] = (
            gates_of_rows(rows_bSK, encoding.config.router).flatten(1).numpy()
        )
        return gates_bO

    with show(num_fitted_on(len(questions)) * epochs, "distilling", unit="questions") as advance:
        fitted = fit_map(
            embeddings_nD,
            gates_of,
            num_sites=encoding.manifest.num_sites,
            hidden=hidden,
            epochs=epochs,
            seed=config.train.seed,
            progress=lambda count, loss: advance(count, f"loss {loss:.3f}"),
        )
    settings = save_map(
        run_dir,
        fitted,
        made_of=MadeOf.of(encoding.manifest, encoder=encoder.identity),
        num_questions=len(questions),
        num_passages=num_passages,
    )
    return Distilled(settings, fitted.map.num_parameters, hidden, num_live - num_passages)


def _questions(
    run_dir: str | Path, config: Config, *, num_rows: int
) -> tuple[list[str], npt.NDArray[np.int64], int]:
    """Returns questions on passages that have rows, the passage of each (n,), and the passages."""
    url, data = join(run_dir, CORPUS), config.data
    cache = cache_for(url, directory=data.cache_dir, max_gb=data.cache_gb)
    corpus = Corpus.open(url, cache=cache)
    within = [part for part in corpus.manifest.partitions if part.first_id < num_rows]
    questions: list[str] = []
    ids: list[int] = []
    num_live = 0
    for record in corpus.iterate(within):
        if record.passage.is_removed or record.passage.id >= num_rows:
            continue
        num_live += 1
        if record.augmentation is not None:
            questions += [qa.question for qa in record.augmentation.qas]
            ids += [record.passage.id] * len(record.augmentation.qas)
    return questions, np.asarray(ids, dtype=np.int64), num_live

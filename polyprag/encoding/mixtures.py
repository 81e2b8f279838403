"""Mixtures of an encoding's passages by their keys, without a model.

S sites, K experts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polyprag.encoding.reader import Encoding
from polyprag.errors import ConfigError
from polyprag.method.mixture import mix_gates
from polyprag.method.mixture import weights as weights_of
from polyprag.method.router import gates as gates_of_rows
from sharding.change.keys import ids_of_keys
from sharding.corpus.passages import Passage
from sharding.corpus.reader import Corpus
from sharding.storage.files import join

Mixed = str | Sequence[str] | Mapping[str, float]  # a key, keys that count alike, keys and weights


@dataclass(frozen=True, slots=True, eq=False)
class PassageMixture:
    """Passages' gates, put together.

    Attributes:
        passages: in the order of their keys.
        weights: what each passage's gates count.
        gates: (S, K) float32.
    """

    passages: tuple[Passage, ...]
    weights: tuple[float, ...]
    gates: Tensor


class Mixtures:
    """Makes mixtures of one run's passages; rows are read when passages are asked for."""

    def __init__(self, run_dir: str, encoding: Encoding | None = None) -> None:
        """Opens the run's corpus, and its encoding where it isn't given.

        Raises:
            CorpusError, RunError: one of them isn't there or is damaged.
        """
        self.encoding = encoding or Encoding.load(run_dir)
        self._corpus = Corpus.open(join(run_dir, "corpus"))

    def of(self, mixed: Mixed) -> PassageMixture:
        """Returns the mixture of passages.

        Args:
            mixed: a passage's key; several, which count as hits of equal score do; or a weight for
                each key.

        Raises:
            CorpusError: no passage has a key.
            RunError: the encoding has no row for a passage, or is damaged.
            ConfigError: there is no passage in it.
        """
        keys = [mixed] if isinstance(mixed, str) else list(mixed)
        if not keys:
            raise ConfigError("a mixture needs a passage: name its key")
        ids = ids_of_keys(self._corpus, keys)
        config = self.encoding.config
        if isinstance(mixed, Mapping):
            weights = torch.tensor([float(mixed[key]) for key in keys])
        else:
            weights = weights_of(torch.ones(len(ids)), config.retrieval)
        gates = gates_of_rows(torch.from_numpy(self.encoding.rows(ids)), config.router)
        return PassageMixture(
            passages=tuple(self._corpus.record(passage_id).passage for passage_id in ids),
            weights=tuple(weights.tolist()),
            gates=mix_gates(gates, weights),
        )

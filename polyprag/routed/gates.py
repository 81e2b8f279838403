"""The mixtures of experts that a run's routing map gives to questions, without any search."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from polyprag.config import Config
from polyprag.encoding.manifest import EncodingManifest
from polyprag.errors import RunError
from polyprag.retrieval.query_encoder import QueryEncoder, query_encoder
from polyprag.routed.map import RoutingMap
from polyprag.routed.map_file import DISTIL_AGAIN, MadeOf, load_map, map_dir


class RoutedGates:
    """A query encoder and the routing map that was made of its vectors."""

    def __init__(self, encoder: QueryEncoder, routing_map: RoutingMap) -> None:
        """Puts loaded parts together; `open` loads them."""
        self._encoder, self._map = encoder, routing_map

    @classmethod
    def open(cls, run_dir: str | Path, config: Config, *, encoding: EncodingManifest) -> Self:
        """Loads RUN/router and the encoder of RUN/index.

        Args:
            run_dir: RUN.
            config: see `query_encoder`.
            encoding: whose experts will be mixed.

        Raises:
            RunError: one of them is missing or damaged, or the map was made of another encoding or
                encoder.
        """
        encoder = query_encoder(run_dir, config)
        made_of = MadeOf.of(encoding, encoder=encoder.identity)
        routing_map = load_map(run_dir, made_of=made_of)
        expected = (encoder.encoder.dims, encoding.num_sites, encoding.num_experts)
        if (routing_map.dims, routing_map.num_sites, routing_map.num_experts) != expected:
            raise RunError(
                f"{map_dir(run_dir)}: not of the encoding's and the encoder's sizes; {DISTIL_AGAIN}"
            )
        return cls(encoder, routing_map)

    def of(self, questions: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the mixtures (Q, S, K); zeros where the encoder knows nothing in a question."""
        return self._map.gates(self._encoder.encode_queries(questions))

"""The encoder of a run's dense index, for questions alone: no passage is read or searched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polyprag.config import Config
from polyprag.retrieval.encoders.choice import check_saved_endpoint, saved_encoder
from polyprag.retrieval.encoders.interface import Encoder
from polyprag.retrieval.parts.index_store import index_store_of
from polyprag.retrieval.parts.manifest import IndexManifest
from polyprag.retrieval.parts.part import IndexPart
from polyprag.run_dir import INDEX
from sharding.storage.files import join


@dataclass(frozen=True, slots=True)
class QueryEncoder:
    """An encoder of questions.

    Attributes:
        identity: another one for an encoder that may give other vectors.
        encoder: of questions and passages.
    """

    identity: str
    encoder: Encoder

    def encode_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, D); zero for a question in which nothing is known."""
        return self.encoder.encode_queries(queries)


def query_encoder(run_dir: str | Path, config: Config) -> QueryEncoder:
    """Loads the encoder of RUN/index.

    Args:
        run_dir: RUN, a path or URL.
        config: `data.cache_*`, where RUN is remote.

    Raises:
        RunError: there is no index, or the encoder is damaged.
        ConfigError: the encoder's model can't be loaded.
    """
    store = index_store_of(run_dir, cache_dir=config.data.cache_dir, cache_gb=config.data.cache_gb)
    manifest = IndexManifest.load(store.url)
    encoder = saved_encoder(store.local(_part(manifest)), gpu=config.index.gpu)
    return QueryEncoder(encoder_identity(manifest), encoder)


def check_endpoint(run_dir: str | Path, *, trust_run: bool) -> bool:
    """Returns whether the encoder of RUN/index asks another endpoint than OpenAI's own.

    Args:
        run_dir: RUN, a path or URL.
        trust_run: whether the user trusts it, which is remembered.

    Raises:
        RunError: there is no index, or the encoder is damaged.
        ConfigError: the user hasn't given the endpoint.
    """
    url = join(run_dir, INDEX)
    directory = _part(IndexManifest.load(url)).directory
    return check_saved_endpoint(join(url, directory), trust_run=trust_run)


def encoder_identity(manifest: IndexManifest) -> str:
    """Returns the `QueryEncoder.identity` of an index."""
    return _part(manifest).directory  # its name follows from all that the encoder was made of


def _part(manifest: IndexManifest) -> IndexPart:
    """Returns the part of the index that has the encoder, which is the base's."""
    (encoder,) = manifest.segments[0].parts["encoder"]
    return encoder

"""Dense retrieval: an encoder and the FAISS index of what it made of the passages.

The encoder and its settings are saved with the vectors, so queries are encoded as passages were.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from polyprag.config import Config, ModelConfig
from polyprag.errors import RunError
from polyprag.index.analysis import Analyzer
from polyprag.index.encoders import BaseModelEncoder, Encoder, SentenceEncoder
from polyprag.index.faiss_index import VectorIndex, empty_index, write_vectors
from polyprag.index.fusion import Ranking
from polyprag.index.lsa import LsaEncoder
from polyprag.index.passages import PassageStore
from sharding.files import read_json, write_json

_SETTINGS = "encoder.json"
_CHUNK = 4096  # passages encoded at a time
_MAX_SAMPLE = 500_000  # evenly spaced passages that LSA and FAISS are fitted on


def encoder_settings(config: Config) -> dict[str, Any]:
    """What decides the vectors, as JSON values: a change of it makes a new dense index."""
    index = config.index
    settings: dict[str, Any] = {
        "encoder": index.encoder,
        "factory": index.factory,
        "prefixes": [index.query_prefix, index.passage_prefix],
    }
    if index.encoder == "lsa":
        dims = [index.lsa_dims, index.lsa_sketch]
        return settings | {"dims": dims, "language": index.language}
    if index.encoder == "sentence":
        return settings | {"path": index.encoder_path}
    return settings | {"path": config.model.path, "revision": config.model.revision}


def write_dense(
    directory: Path, store: PassageStore, config: Config, *, progress: Callable[[int], None]
) -> None:
    """Fits or loads the encoder, encodes all passages and writes the dense index.

    Args:
        directory: an existing, empty directory.
        store: the passages.
        config: `index`, and `model` for the encoder `base`.
        progress: called with the number of passages encoded since the last call.

    Raises:
        ConfigError: the encoder can't be loaded, or the factory string can't be used.
        CorpusError: the passages have no words to index.
    """
    settings = config.index
    count = min(len(store), _MAX_SAMPLE)
    sample_ids = np.linspace(0, len(store) - 1, count).round().astype(np.int64).tolist()
    encoder: Encoder
    if settings.encoder == "lsa":
        lsa = LsaEncoder.fit(
            _texts(store, sample_ids, settings.passage_prefix),
            dims=settings.lsa_dims,
            sketch=settings.lsa_sketch,
            analyzer=Analyzer.of_language(settings.language),
        )
        encoder, saved = lsa, lsa.save(directory)
    elif settings.encoder == "sentence":
        sentence = SentenceEncoder(settings.encoder_path or "", batch_size=settings.batch_size)
        encoder, saved = sentence, sentence.settings
    else:
        base = BaseModelEncoder(config.model, batch_size=settings.batch_size)
        encoder, saved = base, base.settings
    write_json(
        directory / _SETTINGS,
        {"encoder": settings.encoder, "query_prefix": settings.query_prefix, "settings": saved},
    )

    def vectors_of(ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            yield encoder.encode(list(_texts(store, chunk, settings.passage_prefix)))

    def all_vectors() -> Iterator[npt.NDArray[np.float32]]:
        for vectors in vectors_of(range(len(store))):
            yield vectors
            progress(len(vectors))

    index = empty_index(encoder.dims, settings.factory)
    write_vectors(
        directory,
        index,
        sample=None if index.is_trained else np.concatenate(list(vectors_of(sample_ids))),
        vectors=all_vectors(),
        factory=settings.factory,
        gpu=settings.gpu,
    )


def _texts(store: PassageStore, ids: Sequence[int], prefix: str) -> Iterator[str]:
    return (f"{prefix}{title}\n{text}" for title, text in store.titled_texts(ids))


class DenseIndex:
    """An opened dense index."""

    def __init__(self, encoder: Encoder, vectors: VectorIndex, *, query_prefix: str) -> None:
        """Puts opened parts together; `open` opens them."""
        self._encoder, self._vectors, self._query_prefix = encoder, vectors, query_prefix

    @classmethod
    def open(cls, directory: Path, *, num_passages: int, gpu: str) -> Self:
        """Opens what `write_dense` wrote, loading the encoder.

        Raises:
            RunError: it is damaged, or of another number of passages.
            ConfigError: the encoder's model isn't there any more.
        """
        settings = read_json(directory / _SETTINGS)
        try:
            encoder = _load_encoder(directory, settings["encoder"], settings["settings"])
            query_prefix = str(settings["query_prefix"])
        except (KeyError, TypeError) as error:
            raise RunError(
                f"{directory / _SETTINGS}: not an encoder's settings ({error}); run "
                "`polyprag index RUN` again"
            ) from error
        vectors = VectorIndex.open(directory, num_passages=num_passages, dims=encoder.dims, gpu=gpu)
        return cls(encoder, vectors, query_prefix=query_prefix)

    def search(self, queries: Sequence[str], *, k: int) -> list[Ranking]:
        """The best k passages of each query; none where the encoder knows nothing in it."""
        vectors = self._encoder.encode([self._query_prefix + query for query in queries])
        return self._vectors.search(vectors, k=k)


def _load_encoder(directory: Path, name: str, settings: dict[str, Any]) -> Encoder:
    if name == "lsa":
        return LsaEncoder.load(directory, settings)
    if name == "sentence":
        return SentenceEncoder(settings["path"], batch_size=settings["batch_size"])
    if name == "base":
        return BaseModelEncoder(ModelConfig(**settings["model"]), batch_size=settings["batch_size"])
    raise KeyError(name)

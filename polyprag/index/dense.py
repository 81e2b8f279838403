"""Dense retrieval: an encoder and the FAISS indexes of what it made of the passages.

The encoder and its settings are saved with the base's vectors, so queries and the passages of later
segments are encoded as the base's passages were.
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
from polyprag.index.faiss_index import VectorIndex, can_train, empty_index, write_vectors
from polyprag.index.fusion import Ranking, merged
from polyprag.index.lsa import LsaEncoder
from polyprag.index.passages import PassageStore
from polyprag.index.segments import OpenSegment
from sharding.files import read_json, write_json

_SETTINGS = "encoder.json"
_CHUNK = 4096  # passages encoded at a time
_MAX_SAMPLE = 500_000  # evenly spaced passages that LSA and FAISS are fitted on
_FLAT_BELOW = 100_000  # passages of a later segment; 10 ms a query with 256 dimensions on a core
_NONE: npt.NDArray[np.int64] = np.zeros(0, np.int64)


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
    directory: Path,
    store: PassageStore,
    config: Config,
    *,
    base: Path | None = None,
    removed: npt.NDArray[np.int64] = _NONE,
    progress: Callable[[int], None],
) -> None:
    """Encodes a segment's passages and writes its dense index.

    Args:
        directory: an existing, empty directory.
        store: the segment's passages.
        config: `index`, and `model` for the encoder `base`.
        base: the base's dense part, whose encoder is used; None makes the base: an encoder is
            fitted or loaded, and saved.
        removed: ascending positions of passages that get no vector.
        progress: called with the number of passages encoded since the last call.

    Raises:
        ConfigError: the encoder can't be loaded, or the factory string can't be used.
        CorpusError: the passages have no words to index.
    """
    settings = config.index
    positions = np.setdiff1d(np.arange(len(store)), removed)
    ids = (positions + store.first_id).tolist()
    evenly = np.linspace(0, max(len(ids) - 1, 0), min(len(ids), _MAX_SAMPLE))
    sample_ids = [ids[i] for i in evenly.round().astype(np.int64).tolist()]
    if base is None:
        encoder = _new_encoder(
            directory, _texts(store, sample_ids, settings.passage_prefix), config
        )
        factory = settings.factory
    else:
        encoder, _ = _saved_encoder(base)
        factory = _factory_of_later(encoder.dims, settings.factory, len(ids))

    def vectors_of(ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            yield encoder.encode(list(_texts(store, chunk, settings.passage_prefix)))

    def all_vectors() -> Iterator[npt.NDArray[np.float32]]:
        progress(len(removed))
        for vectors in vectors_of(ids):
            yield vectors
            progress(len(vectors))

    index = empty_index(encoder.dims, factory)
    write_vectors(
        directory,
        index,
        sample=None if index.is_trained else np.concatenate(list(vectors_of(sample_ids))),
        vectors=all_vectors(),
        positions=positions if len(removed) else None,
        factory=factory,
        gpu=settings.gpu,
    )


def _new_encoder(directory: Path, sample: Iterator[str], config: Config) -> Encoder:
    """Fits or loads the encoder and saves what makes it again."""
    settings = config.index
    encoder: Encoder
    if settings.encoder == "lsa":
        lsa = LsaEncoder.fit(
            sample,
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
    return encoder


def _factory_of_later(dims: int, factory: str, num_passages: int) -> str:
    """The FAISS factory string of a later segment: exact unless it is large enough to be worth it.

    A short one costs little to search, and an inverted file or a quantiser needs many to train on.
    """
    if num_passages < _FLAT_BELOW or not can_train(empty_index(dims, factory), num_passages):
        return "Flat"
    return factory


def _texts(store: PassageStore, ids: Sequence[int], prefix: str) -> Iterator[str]:
    return (f"{prefix}{title}\n{text}" for title, text in store.titled_texts(ids))


class DenseIndex:
    """An opened dense index of any number of segments."""

    def __init__(
        self,
        encoder: Encoder,
        vectors: Sequence[VectorIndex],
        *,
        segments: Sequence[OpenSegment],
        query_prefix: str,
    ) -> None:
        """Puts opened parts together; `open` opens them."""
        self._encoder, self._query_prefix = encoder, query_prefix
        self._vectors, self._segments = tuple(vectors), tuple(segments)

    @classmethod
    def open(
        cls, directories: Sequence[Path], segments: Sequence[OpenSegment], *, gpu: str
    ) -> Self:
        """Opens what `write_dense` wrote for every segment, loading the base's encoder.

        Args:
            directories: of the parts, the base's first.
            segments: whose they are.
            gpu: `index.gpu`.

        Raises:
            RunError: a part is damaged, or of another number of passages.
            ConfigError: the encoder's model isn't there any more.
        """
        encoder, query_prefix = _saved_encoder(directories[0])
        vectors = [
            VectorIndex.open(
                directory, num_passages=segment.span.num_passages, dims=encoder.dims, gpu=gpu
            )
            for directory, segment in zip(directories, segments, strict=True)
        ]
        return cls(encoder, vectors, segments=segments, query_prefix=query_prefix)

    def search(self, queries: Sequence[str], *, k: int) -> list[Ranking]:
        """The best k passages of each query; none where the encoder knows nothing in it."""
        encoded = self._encoder.encode([self._query_prefix + query for query in queries])
        rankings: list[list[Ranking]] = [[] for _ in queries]
        for segment, vectors in zip(self._segments, self._vectors, strict=True):
            found = vectors.search(encoded, k=k, without=segment.hidden)
            for collected, (positions, scores) in zip(rankings, found, strict=True):
                collected.append(Ranking(positions + segment.span.first_id, scores))
        return [merged(collected, k=k) for collected in rankings]


def _saved_encoder(directory: Path) -> tuple[Encoder, str]:
    """The encoder of a base's dense part, and what is put before queries."""
    settings = read_json(directory / _SETTINGS)
    try:
        encoder = _load_encoder(directory, settings["encoder"], settings["settings"])
        return encoder, str(settings["query_prefix"])
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{directory / _SETTINGS}: not an encoder's settings ({error}); run "
            "`polyprag index RUN` again"
        ) from error


def _load_encoder(directory: Path, name: str, settings: dict[str, Any]) -> Encoder:
    if name == "lsa":
        return LsaEncoder.load(directory, settings)
    if name == "sentence":
        return SentenceEncoder(settings["path"], batch_size=settings["batch_size"])
    if name == "base":
        return BaseModelEncoder(ModelConfig(**settings["model"]), batch_size=settings["batch_size"])
    raise KeyError(name)

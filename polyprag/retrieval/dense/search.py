"""Dense retrieval: an encoder, and FAISS indexes of the vectors that it made of the passages.

The encoder is part of the index's base, so queries and the passages of later segments are encoded
as the base's passages were.

Q queries, k hits, D numbers a vector.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import RunError
from polyprag.retrieval.dense.embeddings import Embeddings
from polyprag.retrieval.dense.faiss_index import VectorIndex
from polyprag.retrieval.encoders.choice import saved_encoder
from polyprag.retrieval.encoders.interface import Encoder
from polyprag.retrieval.fusion import TopK, best_of_candidates
from polyprag.retrieval.parts.span import OpenSegment
from polyprag.retrieval.remedy import REMEDY

_CANDIDATES = 50  # of a lossy index are scored again at least


class DenseSegment:
    """One segment's vectors, in one FAISS index or several.

    Args:
        parts: the FAISS indexes.
        embeddings: the vectors themselves.
        segment: whose they are.
    """

    def __init__(
        self, parts: Sequence[VectorIndex], embeddings: Embeddings, segment: OpenSegment
    ) -> None:
        self._parts, self._embeddings, self._segment = tuple(parts), embeddings, segment

    def search(
        self, queries: npt.NDArray[np.float32], *, k: int, refine: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Returns each query's best passages: ids (Q, c), -1 where fewer were found, and scores.

        Args:
            queries: (Q, D) float32.
            k: at least 1.
            refine: hits that are scored again by their embeddings for each one that is returned,
                where an index holds little of each vector.
        """
        hidden, first_id = self._segment.hidden, self._segment.span.first_id
        ids, scores = [], []
        for part in self._parts:
            is_refined = part.is_lossy and refine > 0
            depth = max(k * refine, _CANDIDATES) if is_refined else k
            depth += len(hidden)  # FAISS's own selectors don't work on GPUs
            found_Qc, scores_Qc = part.search(
                queries, k=min(depth, part.max_hits) if is_refined else depth
            )
            if len(hidden):
                found_Qc = np.where(np.isin(found_Qc, hidden), -1, found_Qc)
            if is_refined:
                found_Qc, scores_Qc = self._embeddings.best(queries, found_Qc, k=k)
            ids.append(found_Qc)
            scores.append(scores_Qc)
        ids_Qc, scores_Qc = _side_by_side(ids), _side_by_side(scores)
        if first_id:
            ids_Qc = np.where(ids_Qc < 0, -1, ids_Qc + first_id)
        return ids_Qc, scores_Qc

    def scores(
        self, query: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Returns the scores (m,) of passages (m,) for a query (D,).

        0 for those of other segments.
        """
        span = self._segment.span
        inside = (ids >= span.first_id) & (ids < span.first_id + span.num_passages)
        positions = np.where(inside, ids - span.first_id, -1)
        (scores_m,) = self._embeddings.scores(query[None], positions[None])
        return np.where(inside, scores_m, 0).astype(np.float32, copy=False)


class DenseIndex:
    """An opened dense index of any number of segments.

    Attributes:
        encoder: of queries and passages.
    """

    def __init__(self, encoder: Encoder, segments: Sequence[DenseSegment]) -> None:
        """Puts opened parts together; `open` opens them."""
        self.encoder, self._segments = encoder, tuple(segments)

    @classmethod
    def open(
        cls,
        encoder_directory: Path,
        directories: Sequence[tuple[Sequence[Path], Sequence[Path]]],
        segments: Sequence[OpenSegment],
        *,
        gpu: str,
        nprobe: int = 0,
    ) -> Self:
        """Opens the encoder, and the embeddings and FAISS indexes of every segment.

        Args:
            encoder_directory: of the base's encoder.
            directories: of each segment's embeddings and of its FAISS indexes, the base's first.
            segments: whose they are.
            gpu: `index.gpu`.
            nprobe: see `VectorIndex.open`.

        Raises:
            RunError: a part is damaged, or of another number of passages.
            ConfigError: the encoder's model isn't there any more.
        """
        encoder = saved_encoder(encoder_directory, gpu=gpu)
        opened = []
        for (embeddings, indexes), segment in zip(directories, segments, strict=True):
            num_passages = segment.span.num_passages
            vectors = Embeddings.open(embeddings, num_passages=num_passages)
            if vectors.dims != encoder.dims:
                raise RunError(
                    f"{embeddings[0]}: vectors of {vectors.dims} numbers where the encoder makes "
                    f"{encoder.dims}; {REMEDY}"
                )
            parts = [
                VectorIndex.open(
                    directory,
                    num_passages=num_passages,
                    dims=encoder.dims,
                    gpu=gpu,
                    nprobe=nprobe,
                )
                for directory in indexes
            ]
            opened.append(DenseSegment(parts, vectors, segment))
        return cls(encoder, opened)

    def search(self, queries: Sequence[str], *, k: int, refine: int = 0) -> TopK:
        """Returns the best k passages of each query; none where the encoder knows nothing in it."""
        return self.search_vectors(self.encoder.encode_queries(queries), k=k, refine=refine)

    def search_vectors(self, queries: npt.NDArray[np.float32], *, k: int, refine: int = 0) -> TopK:
        """Returns the best k passages of each query vector, none of a zero vector.

        Args:
            queries: (Q, D) float32, C-contiguous.
            k: at least 1.
            refine: see `DenseSegment.search`.

        Raises:
            RunError: a vector isn't finite.
        """
        if not np.isfinite(queries).all():
            at = int(np.isfinite(queries).all(axis=1).argmin())
            raise RunError(
                f"the vector of question {at + 1} of {len(queries)} holds numbers that are "
                "infinite or undefined: index.encoder isn't fit for use; check its model's files"
            )
        found = [segment.search(queries, k=k, refine=refine) for segment in self._segments]
        ids_Qc = _side_by_side([ids for ids, _ in found])
        scores_Qc = _side_by_side([scores for _, scores in found])
        known_Q = queries.any(axis=1)
        if not known_Q.all():
            ids_Qc[~known_Q] = -1
        return best_of_candidates(ids_Qc, scores_Qc, k=k)

    def scores(
        self, query: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Returns the exact scores (m,) of passages (m,) for a query vector (D,)."""
        found = np.zeros(len(ids), np.float32)
        for segment in self._segments:
            found += segment.scores(query, ids)
        return found


def _side_by_side(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)

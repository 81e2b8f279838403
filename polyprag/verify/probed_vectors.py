"""Whether FAISS and the embeddings have the same vector of a passage, and an encoder makes it.

m passages that are looked up, c candidates of each, D numbers a vector.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from polyprag.config import RetrievalConfig
from polyprag.retrieval.dense.embeddings import Embeddings
from polyprag.retrieval.dense.faiss_index import VectorIndex
from polyprag.retrieval.dense.search import DenseSegment
from polyprag.retrieval.encoders.interface import Encoder
from polyprag.retrieval.parts.span import OpenSegment, Span
from polyprag.verify.sample import SegmentSample
from sharding.checks.problem import Problem
from sharding.storage.array_files import map_array

_SAME = 0.99  # cosine of a stored vector and what its encoder makes of the text again
_DEPTH = 10  # hits among which a passage is to be found by its own vector
_SHARE_FOUND = 0.5  # of the sample; an index that compresses much doesn't find everything
# A score's distance from the inner product, as a share of both lengths: of an index that keeps
# vectors as they are, and of vectors that can't be the same.
_EXACT, _OTHER = 1e-4, 1e-2


def wrong_vectors(
    sample: SegmentSample, encoder: Encoder | None, *, removed: npt.NDArray[np.int64]
) -> list[Problem]:
    """Returns what disagrees among a segment's embeddings, its FAISS indexes and the encoder.

    Args:
        sample: of the segment.
        encoder: the base's, if it is to be asked.
        removed: ascending positions in the segment that have no vector.
    """
    num_passages = sample.segment.num_passages
    embeddings = Embeddings.open(sample.directories["embeddings"], num_passages=num_passages)
    vectors_mD = embeddings.take(sample.positions)
    if encoder is not None and sample.passages:
        problem = _unlike_encoder(sample, vectors_mD, encoder)
        if problem is not None:
            return [problem]  # FAISS's vectors can't be held against these
    indexes = [
        VectorIndex.open(directory, num_passages=num_passages, dims=embeddings.dims, gpu="never")
        for directory in sample.directories["dense"]
    ]
    parts = sample.segment.parts["dense"]
    # Without an encoder it isn't known which of the two has the right ones.
    delete_too = "" if encoder is not None else "embeddings-*"
    ends = np.cumsum([index.num_vectors for index in indexes])
    if ends[-1] != num_passages - len(removed):
        what = f"{ends[-1]} vectors where {num_passages - len(removed)} passages have one"
        return [sample.problem(parts[0], f"FAISS holds {what}", delete_too=delete_too)]
    # The indexes are of consecutive passages, and removed ones are in none.
    ranks_m = sample.positions - np.searchsorted(removed, sample.positions)
    index_of_m = np.searchsorted(ends, ranks_m, side="right")
    problems = []
    for number, (index, part) in enumerate(zip(indexes, parts, strict=True)):
        mine = (index_of_m == number) & vectors_mD.any(axis=1)
        if mine.any():
            asked = _Asked(sample.ids[mine], vectors_mD[mine], embeddings, sample.segment.span)
            wrong = asked.wrong_in(index)
            if wrong is not None:
                problems.append(sample.problem(part, wrong, delete_too=delete_too))
    return problems


def _unlike_encoder(
    sample: SegmentSample, vectors_mD: npt.NDArray[np.float32], encoder: Encoder
) -> Problem | None:
    """Returns a problem where stored vectors aren't what the encoder makes of the passages."""
    made_mD = encoder.encode_passages([(each.title, each.text) for each in sample.passages])
    if made_mD.shape[1] != vectors_mD.shape[1]:
        first = sample.segment.parts["embeddings"][0]
        what = f"vectors of {vectors_mD.shape[1]} numbers where the encoder makes {encoder.dims}"
        return sample.problem(first, what, delete_too="dense-*")
    lengths_m = np.linalg.norm(vectors_mD, axis=1) * np.linalg.norm(made_mD, axis=1)
    products_m = (vectors_mD * made_mD).sum(axis=1)
    cosines_m = np.divide(products_m, lengths_m, out=np.zeros_like(products_m), where=lengths_m > 0)
    both_zero_m = ~vectors_mD.any(axis=1) & ~made_mD.any(axis=1)
    (wrong,) = np.nonzero((cosines_m < _SAME) & ~both_zero_m)
    if not len(wrong):
        return None
    first_id = int(sample.ids[wrong[0]])
    sizes = [_num_vectors(directory) for directory in sample.directories["embeddings"]]
    what = (
        f"passage {first_id} has a vector whose cosine with what the encoder makes of its text is "
        f"{cosines_m[wrong[0]]:.3f} and not 1{sample.of_sample(len(wrong))}"
    )
    part = sample.part("embeddings", first_id, sizes=sizes)
    return sample.problem(part, what, delete_too="dense-*")


def _num_vectors(embeddings: Path) -> int:
    (path,) = embeddings.glob("*.npy")
    return len(map_array(path, dtypes=[np.float16], ndim=2))


@dataclass(frozen=True, slots=True)
class _Asked:
    """Stored vectors that are searched for in the FAISS index that should have them.

    Attributes:
        ids: (m,) of their passages.
        vectors: (m, D), none of them zero.
        embeddings: of the segment.
        span: the segment's.
    """

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    embeddings: Embeddings
    span: Span

    def wrong_in(self, index: VectorIndex) -> str | None:
        """Returns the first passage whose score can't be, or that isn't found where most aren't."""
        # Of a small index a part only, so that few are found by chance.
        depth = max(1, min(_DEPTH, index.num_vectors // 20))
        refine = max(1, min(RetrievalConfig().refine, index.num_vectors // (10 * depth)))
        nobody = np.zeros(0, np.int64)
        part = DenseSegment([index], self.embeddings, OpenSegment(self.span, nobody))
        found_mc, scores_mc = part.search(self.vectors, k=depth, refine=refine)
        products_mc, errors_mc = self._products(found_mc, scores_mc)
        hit_mc = found_mc >= 0
        num_asked = len(self.ids)
        if hit_mc.any() and np.median(errors_mc[hit_mc]) <= _EXACT:
            wrong_mc = errors_mc > _OTHER
            if wrong_mc.any():
                i, c = np.argwhere(wrong_mc)[0]
                return (
                    f"passage {found_mc[i, c]} scores {scores_mc[i, c]:.4f} for the vector of "
                    f"passage {self.ids[i]} where its own in the embeddings gives "
                    f"{products_mc[i, c]:.4f} (so it is for {wrong_mc.any(axis=1).sum()} of "
                    f"{num_asked} vectors looked up)"
                )
        # Else it keeps vectors roughly, or others: who is found tells.
        is_found_m = (found_mc == self.ids[:, None]).any(axis=1)
        # Among equals, such as the same text twice, it is chance who is found.
        enough_m = (self.vectors**2).sum(axis=1) * (1 - _EXACT)
        is_found_m |= (products_mc >= enough_m[:, None]).sum(axis=1) >= depth
        missed = self.ids[~is_found_m]
        if len(missed) > (1 - _SHARE_FOUND) * num_asked:
            return (
                f"passage {missed[0]} isn't found by its own vector in the embeddings (nor are "
                f"{len(missed) - 1} more of {num_asked} looked up)"
            )
        return None

    def _products(
        self, found_mc: npt.NDArray[np.int64], scores_mc: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Returns inner products with the hits' vectors, and the scores' distance from them.

        The first is -inf where there is no hit; the second is a share of both lengths, and 0 there.
        """
        products_mc = np.full(found_mc.shape, -np.inf)
        errors_mc = np.zeros(found_mc.shape)
        for i, vector_D in enumerate(self.vectors):
            is_hit = found_mc[i] >= 0
            vectors_cD = self.embeddings.take(found_mc[i, is_hit] - self.span.first_id)
            products_mc[i, is_hit] = vectors_cD @ vector_D
            lengths_c = np.linalg.norm(vectors_cD, axis=1) * np.linalg.norm(vector_D)
            off_c = np.abs(scores_mc[i, is_hit] - products_mc[i, is_hit])
            errors_mc[i, is_hit] = off_c / np.maximum(lengths_c, np.finfo(np.float32).tiny)
        return products_mc, errors_mc

from pathlib import Path

import numpy as np
import pytest

from polyprag.retrieval.dense.embeddings import Embeddings
from polyprag.retrieval.dense.faiss_factory import empty_index
from polyprag.retrieval.dense.faiss_index import VectorIndex, fill, write_index, write_place
from polyprag.retrieval.dense.faiss_training import trained_index
from polyprag.retrieval.dense.search import DenseSegment
from polyprag.retrieval.parts.span import OpenSegment, Span

DIMS, FIRST_ID = 16, 1000
HIDDEN = np.array([3, 40])


def vectors(count: int, *, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, DIMS), dtype=np.float32)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


def lossy_segment(directory: Path, given: np.ndarray) -> DenseSegment:
    factory = "IVF2,PQ4x4fsr"
    index = trained_index(
        empty_index(DIMS, factory), given.astype(np.float32), factory=factory, gpu="never"
    )
    fill(index, [given.astype(np.float32)], None)
    write_index(directory, index)
    write_place(directory, first=0)
    opened = VectorIndex.open(directory, num_passages=len(given), dims=DIMS, gpu="never", nprobe=2)
    assert opened.is_lossy
    halves = [np.ascontiguousarray(part) for part in np.array_split(given, 2)]
    segment = OpenSegment(Span(FIRST_ID, len(given)), HIDDEN)
    return DenseSegment([opened], Embeddings(halves), segment)


@pytest.mark.parametrize(("k", "refine"), [(1, 1), (3, 10), (200, 1)])
def test_candidates_of_a_lossy_index_get_their_exact_scores(
    tmp_path: Path, k: int, refine: int
) -> None:
    given, queries = vectors(200), vectors(20, seed=1).astype(np.float32)
    found_Qc, scores_Qc = lossy_segment(tmp_path, given).search(queries, k=k, refine=refine)
    there = found_Qc >= 0
    assert there.sum(axis=1).min() >= min(48, k)  # 50 candidates at least, two may be hidden
    assert not np.isin(found_Qc, FIRST_ID + HIDDEN).any()
    exact = queries @ given.astype(np.float32).T
    expected = np.take_along_axis(exact, np.where(there, found_Qc - FIRST_ID, 0), 1)
    np.testing.assert_allclose(scores_Qc[there], expected[there], atol=1e-6)


def test_one_hit_of_a_lossy_index_is_the_best_of_many_candidates(tmp_path: Path) -> None:
    given, queries = vectors(60), vectors(50, seed=1).astype(np.float32)
    found_Qc, scores_Qc = lossy_segment(tmp_path, given).search(queries, k=1, refine=1)
    exact = queries @ given.astype(np.float32).T
    exact[:, HIDDEN] = -np.inf
    best = np.take_along_axis(
        found_Qc, np.where(found_Qc < 0, -np.inf, scores_Qc).argmax(axis=1)[:, None], 1
    )
    assert np.mean(best[:, 0] - FIRST_ID == exact.argmax(axis=1)) > 0.9


def test_without_refining_scores_are_those_of_the_codes(tmp_path: Path) -> None:
    given, queries = vectors(200), vectors(5, seed=1).astype(np.float32)
    segment = lossy_segment(tmp_path, given)
    found_Qc, scores_Qc = segment.search(queries, k=10, refine=0)
    exact = np.take_along_axis(
        queries @ given.astype(np.float32).T, np.maximum(found_Qc - FIRST_ID, 0), 1
    )
    assert np.abs(scores_Qc - exact)[found_Qc >= 0].max() > 0.01


def test_scores_of_passages_of_other_segments_are_zero(tmp_path: Path) -> None:
    given, query = vectors(100), vectors(1, seed=1)[0].astype(np.float32)
    ids = np.array([FIRST_ID + 99, 0, FIRST_ID, FIRST_ID + 100, FIRST_ID + 50])
    scores = lossy_segment(tmp_path, given).scores(query, ids)
    exact = given.astype(np.float32) @ query
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [exact[99], 0, exact[0], 0, exact[50]], atol=1e-6)

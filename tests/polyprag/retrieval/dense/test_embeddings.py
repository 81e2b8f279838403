from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from polyprag.retrieval.dense.embeddings import Embeddings

SIZES = (3, 1, 40)


@pytest.fixture(params=[1, 7, 64, 300])
def parts(request: pytest.FixtureRequest) -> list[npt.NDArray[np.float16]]:
    generator = np.random.default_rng(request.param)
    return [generator.standard_normal((size, request.param)).astype(np.float16) for size in SIZES]


@pytest.mark.parametrize("num_queries", [0, 1, 300])
def test_scores_are_inner_products_with_the_vectors_at_the_positions(
    parts: list[npt.NDArray[np.float16]], num_queries: int
) -> None:
    vectors = np.concatenate(parts).astype(np.float32)
    generator = np.random.default_rng(0)
    queries = generator.standard_normal((num_queries, vectors.shape[1]), dtype=np.float32)
    positions = generator.integers(-1, len(vectors), (num_queries, 50))
    found = Embeddings(parts).scores(queries, positions)
    exact = np.einsum("qcd,qd->qc", vectors.astype(np.float64)[positions], queries)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[positions < 0], -np.inf)
    there = positions >= 0
    np.testing.assert_allclose(found[there], exact[there], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("k", [1, 5, 60])
@pytest.mark.parametrize("num_queries", [0, 1, 300])
def test_the_best_candidates_equal_sorting_their_scores(
    parts: list[npt.NDArray[np.float16]], num_queries: int, k: int
) -> None:
    embeddings, count = Embeddings([*parts, *parts]), 2 * sum(SIZES)  # every vector twice
    generator = np.random.default_rng(1)
    queries = generator.standard_normal((num_queries, embeddings.dims), dtype=np.float32)
    candidates = generator.permuted(np.tile(np.arange(count), (num_queries, 1)), axis=1)[:, :50]
    candidates[generator.random(candidates.shape) < 0.1] = -1
    scores = embeddings.scores(queries, candidates)
    found, best = embeddings.best(queries, candidates, k=k)
    assert found.shape == best.shape == (num_queries, k)
    for row, of_row, ids, their in zip(candidates, scores, found, best, strict=True):
        wanted = sorted(
            (-score, i) for score, i in zip(of_row.tolist(), row.tolist(), strict=True) if i >= 0
        )[:k]
        given = list(zip((-their).tolist(), ids.tolist(), strict=True))
        assert given == wanted + [(np.inf, -1)] * (k - len(wanted))


def test_every_size_of_a_number_counts() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16)[np.isfinite(bits.view(np.float16))]
    found = Embeddings([halves[:, None]]).scores(
        np.ones((1, 1), np.float32), np.arange(len(halves))[None]
    )
    np.testing.assert_array_equal(found[0], halves.astype(np.float32))


def test_memory_maps_are_scored_in_place(tmp_path: Path) -> None:
    directories = []
    for number in range(3):
        directory = tmp_path / str(number)
        directory.mkdir()
        np.save(directory / "vectors.npy", np.full((2, 5), number, np.float16))
        directories.append(directory)
    opened = Embeddings.open(directories, num_passages=6)
    found = opened.scores(np.ones((1, 5), np.float32), np.arange(6)[None])
    np.testing.assert_array_equal(found, [[0, 0, 5, 5, 10, 10]])


def test_a_position_that_is_not_there_is_an_index_error() -> None:
    embeddings = Embeddings([np.zeros((4, 2), np.float16)])
    query, candidates = np.zeros((1, 2), np.float32), np.array([[0, 4]])
    with pytest.raises(IndexError, match="below 4: 4"):
        embeddings.scores(query, candidates)
    with pytest.raises(IndexError, match="below 4: 4"):
        embeddings.best(query, candidates, k=1)

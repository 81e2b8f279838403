from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from polyprag.errors import ConfigError, RunError
from polyprag.index.faiss_index import VectorIndex, can_train, empty_index, write_vectors

DIMS = 16


def unit_vectors(count: int, *, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMS), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(directory: Path, vectors: np.ndarray, factory: str, *, gpu: str = "never") -> VectorIndex:
    index = empty_index(DIMS, factory)
    write_vectors(
        directory,
        index,
        sample=None if index.is_trained else vectors,
        vectors=np.array_split(vectors, 3),
        factory=factory,
        gpu=gpu,
    )
    return VectorIndex.open(directory, num_passages=len(vectors), dims=DIMS, gpu=gpu)


def test_flat_equals_exact_search(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(300), unit_vectors(5, seed=1)
    found = build(tmp_path, vectors, "Flat").search(queries, k=10)
    products = queries @ vectors.T
    expected_ids = np.argsort(-products, axis=1)[:, :10]
    for ranking, ids, scores in zip(found, expected_ids, products, strict=True):
        assert ranking.ids.tolist() == ids.tolist()
        np.testing.assert_allclose(ranking.scores, scores[ids], atol=1e-6)


def test_equal_vectors_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    vectors = np.repeat(unit_vectors(1), 9, axis=0)
    assert build(tmp_path, vectors, "Flat").search(vectors[:1], k=9)[0].ids.tolist() == [*range(9)]


def test_k_above_the_number_of_passages_returns_them_all(tmp_path: Path) -> None:
    vectors = unit_vectors(4)
    assert len(build(tmp_path, vectors, "Flat").search(vectors[:1], k=50)[0].ids) == 4


def test_a_zero_query_finds_nothing(tmp_path: Path) -> None:
    queries = np.vstack([np.zeros((1, DIMS), np.float32), unit_vectors(1)])
    found = build(tmp_path, unit_vectors(4), "Flat").search(queries, k=2)
    assert [len(ranking.ids) for ranking in found] == [0, 2]


@pytest.mark.parametrize("factory", ["IVF8,Flat", "PCA8,IVF4,PQ4x4", "HNSW8,Flat", "SQ8"])
def test_approximate_indexes_mostly_find_a_vector_itself(tmp_path: Path, factory: str) -> None:
    vectors = unit_vectors(400)
    found = build(tmp_path, vectors, factory).search(vectors, k=3)
    assert np.mean([i in ranking.ids for i, ranking in enumerate(found)]) > 0.5


def test_passages_without_a_vector_or_left_out_are_not_found(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(30), unit_vectors(4, seed=1)
    positions = np.delete(np.arange(40), [0, 7, 8, 9, 15, 20, 21, 30, 31, 39])
    index = empty_index(DIMS, "Flat")
    write_vectors(
        tmp_path,
        index,
        sample=None,
        vectors=[vectors],
        positions=positions,
        factory="Flat",
        gpu="never",
    )
    opened = VectorIndex.open(tmp_path, num_passages=40, dims=DIMS, gpu="never")
    without = positions[[3, 4, 29]]
    for k in (1, 5, 40):
        for ranking, products in zip(
            opened.search(queries, k=k, without=without), queries @ vectors.T, strict=True
        ):
            order = [i for i in positions[np.argsort(-products)] if i not in without]
            assert ranking.ids.tolist() == order[:k]
    with pytest.raises(RunError, match=r"positions.*polyprag index"):
        VectorIndex.open(tmp_path, num_passages=38, dims=DIMS, gpu="never")


def test_an_index_of_no_vector_finds_nothing(tmp_path: Path) -> None:
    nothing = np.zeros((0, DIMS), np.float32)
    (found,) = build(tmp_path, nothing, "Flat").search(unit_vectors(1), k=3)
    assert len(found.ids) == 0


def test_an_inverted_file_needs_vectors_for_its_lists() -> None:
    assert can_train(empty_index(DIMS, "Flat"), 1)
    assert not can_train(empty_index(DIMS, "IVF8,Flat"), 8 * 39 - 1)
    assert can_train(empty_index(DIMS, "IVF8,Flat"), 8 * 39)


def test_an_unknown_factory_string_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"index\.factory='Bogus'.*IVF4096,PQ64"):
        empty_index(DIMS, "Bogus")


def test_too_few_passages_to_train_on_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"index\.factory='IVF64,Flat'.*20 passages"):
        build(tmp_path, unit_vectors(20), "IVF64,Flat")


def test_a_truncated_or_foreign_file_is_a_run_error(tmp_path: Path) -> None:
    build(tmp_path, unit_vectors(20), "Flat")
    with pytest.raises(RunError, match="20 vectors of 16"):
        VectorIndex.open(tmp_path, num_passages=21, dims=DIMS, gpu="never")
    path = tmp_path / "vectors.faiss"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="polyprag index RUN"):
        VectorIndex.open(tmp_path, num_passages=20, dims=DIMS, gpu="never")


class StubClonerOptions:
    shard = False


def pretend_two_gpus(monkeypatch: pytest.MonkeyPatch, clone: Any) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "GpuMultipleClonerOptions", StubClonerOptions, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", clone, raising=False)


def test_gpus_train_the_quantizer_and_hold_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []

    def clone(index: Any, co: StubClonerOptions | None = None) -> Any:
        moved.append((type(index).__name__, co is not None and co.shard))
        return index

    pretend_two_gpus(monkeypatch, clone)
    vectors = unit_vectors(400)
    index = build(tmp_path, vectors, "IVF8,Flat", gpu="auto")
    assert moved == [("IndexFlatIP", False), ("IndexIVFFlat", True)]
    assert index.search(vectors[:1], k=1)[0].ids.tolist() == [0]
    with pytest.raises(ConfigError, match=r"index\.gpu=never"):
        build(tmp_path, unit_vectors(3000), "Flat", gpu="auto").search(vectors[:1], k=2049)


def test_gpus_are_left_alone_when_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_two_gpus(monkeypatch, lambda *_, **__: pytest.fail("moved to a GPU"))
    build(tmp_path, unit_vectors(20), "Flat", gpu="never")


def test_an_index_that_gpus_can_not_hold_stays_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(index: Any, co: StubClonerOptions | None = None) -> Any:
        raise RuntimeError("Error: This index type is not implemented on GPU.")

    pretend_two_gpus(monkeypatch, clone)
    vectors = unit_vectors(20)
    index = build(tmp_path, vectors, "HNSW8,Flat", gpu="auto")
    assert index.search(vectors[:1], k=1)[0].ids.tolist() == [0]

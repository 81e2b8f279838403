from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.dense.faiss_factory import (
    can_train,
    empty_index,
    factory_for,
    inverted_file,
    is_lossy,
)
from polyprag.retrieval.dense.faiss_index import VectorIndex, fill, write_index, write_place
from polyprag.retrieval.dense.faiss_training import trained_index

DIMS = 16


def unit_vectors(count: int, *, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMS), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(
    directory: Path,
    vectors: np.ndarray,
    factory: str,
    *,
    gpu: str = "never",
    positions: np.ndarray | None = None,
    nprobe: int = 0,
) -> VectorIndex:
    index = trained_index(empty_index(DIMS, factory), vectors, factory=factory, gpu=gpu)
    fill(index, np.array_split(vectors, 3), None)
    write_index(directory, index)
    write_place(directory, first=0, positions=positions)
    num_passages = len(vectors) if positions is None else 40
    return VectorIndex.open(directory, num_passages=num_passages, dims=DIMS, gpu=gpu, nprobe=nprobe)


def search(index: VectorIndex, queries: np.ndarray, *, k: int) -> list[list[int]]:
    ids_Qk, scores_Qk = index.search(queries, k=k)
    assert ids_Qk.shape == scores_Qk.shape
    return [[i for i in ids if i >= 0] for ids in ids_Qk.tolist()]


def test_flat_equals_exact_search(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(300), unit_vectors(5, seed=1)
    ids_Qk, scores_Qk = build(tmp_path, vectors, "Flat").search(queries, k=10)
    products = queries @ vectors.T
    np.testing.assert_array_equal(ids_Qk, np.argsort(-products, axis=1)[:, :10])
    np.testing.assert_allclose(scores_Qk, np.take_along_axis(products, ids_Qk, 1), atol=1e-6)


def test_k_above_the_number_of_passages_returns_them_all(tmp_path: Path) -> None:
    vectors = unit_vectors(4)
    assert len(search(build(tmp_path, vectors, "Flat"), vectors[:1], k=50)[0]) == 4


@pytest.mark.parametrize("factory", ["IVF8,Flat", "PCA8,IVF4,PQ4x4", "HNSW8,Flat", "SQ8"])
def test_approximate_indexes_mostly_find_a_vector_itself(tmp_path: Path, factory: str) -> None:
    vectors = unit_vectors(400)
    found = search(build(tmp_path, vectors, factory), vectors, k=3)
    assert np.mean([i in ids for i, ids in enumerate(found)]) > 0.5


@pytest.mark.parametrize("factory", ["IVF64,Flat", "IVF64_HNSW16,Flat"])
def test_reading_all_lists_is_an_exact_search(tmp_path: Path, factory: str) -> None:
    # A graph of the lists gives no more of them than it keeps in view: 16 by FAISS's default.
    vectors, queries = unit_vectors(64 * 39), unit_vectors(20, seed=1)
    index = build(tmp_path, vectors, factory, nprobe=64)
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :30].tolist()
    assert search(index, queries, k=30) == expected


def test_more_lists_of_a_lossy_index_are_read(tmp_path: Path) -> None:
    # 2048 lists: 45 of them by the square root, 64 where a list is soon read.
    vectors = np.repeat(unit_vectors(2048), 2, axis=0)
    read = {}
    for factory in ("IVF2048,SQfp16", "IVF2048,PQ4x4fsr"):
        empty = empty_index(DIMS, factory)
        ivf = inverted_file(empty)
        ivf.quantizer.add(unit_vectors(2048))
        empty.train(vectors)
        fill(empty, [vectors], None)
        write_index(tmp_path, empty)
        write_place(tmp_path, first=0)
        opened = VectorIndex.open(tmp_path, num_passages=4096, dims=DIMS, gpu="never")
        (found,) = search(opened, vectors[:1], k=4096)
        read[factory] = len(found) // 2
    assert read["IVF2048,SQfp16"] == 45
    assert 60 <= read["IVF2048,PQ4x4fsr"] <= 64  # fast scan may leave out the worst


def test_positions_are_those_of_the_passages_that_have_vectors(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(30), unit_vectors(4, seed=1)
    positions = np.delete(np.arange(40), [0, 7, 8, 9, 15, 20, 21, 30, 31, 39])
    index = build(tmp_path, vectors, "Flat", positions=positions)
    for k in (1, 5, 40):
        for ids, products in zip(search(index, queries, k=k), queries @ vectors.T, strict=True):
            assert ids == positions[np.argsort(-products)][:k].tolist()
    with pytest.raises(RunError, match=r"positions.*polyprag index"):
        VectorIndex.open(tmp_path, num_passages=38, dims=DIMS, gpu="never")


def test_an_index_of_no_vector_finds_nothing(tmp_path: Path) -> None:
    nothing = np.zeros((0, DIMS), np.float32)
    assert search(build(tmp_path, nothing, "Flat"), unit_vectors(1), k=3) == [[]]


def test_an_inverted_file_needs_vectors_for_its_lists() -> None:
    assert can_train(empty_index(DIMS, "Flat"), 1)
    assert not can_train(empty_index(DIMS, "IVF8,Flat"), 8 * 39 - 1)
    assert can_train(empty_index(DIMS, "IVF8,Flat"), 8 * 39)


@pytest.mark.parametrize("dims", [2, 4, 100, 256, 384, 768, 1024, 4096])
def test_the_rule_gives_indexes_that_faiss_makes(dims: int) -> None:
    for gpu in (False, True):
        assert factory_for(99_999, dims, gpu=gpu) == "Flat"
        for count in (100_000, 499_999, 500_000, 21_000_000, 10**9):
            index = empty_index(dims, factory_for(count, dims, gpu=gpu))
            assert index.d == dims


def test_only_quantised_vectors_are_scored_again() -> None:
    for factory in ("Flat", "IVF4,Flat", "HNSW8,Flat", "IVF4,PQ4,RFlat"):
        assert not is_lossy(empty_index(DIMS, factory)), factory
    for factory in ("PQ4", "IVF4,PQ4", "OPQ4_8,IVF4,PQ4x4fs", "IVF4,RaBitQ"):
        assert is_lossy(empty_index(DIMS, factory)), factory


def test_an_unknown_factory_string_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"index\.factory='Bogus'.*IVF4096,PQ64"):
        empty_index(DIMS, "Bogus")


def test_too_few_passages_to_train_on_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"index\.factory='IVF64,Flat'.*20 passages"):
        build(tmp_path, unit_vectors(20), "IVF64,Flat")


def test_a_truncated_or_foreign_file_is_a_run_error(tmp_path: Path) -> None:
    build(tmp_path, unit_vectors(20), "Flat")
    with pytest.raises(RunError, match="20 vectors of 16"):
        VectorIndex.open(tmp_path, num_passages=19, dims=DIMS, gpu="never")
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
    assert moved == [("IndexFlatIP", True), ("IndexIVFFlat", True)]
    assert search(index, vectors[:1], k=1) == [[0]]
    with pytest.raises(ConfigError, match=r"index\.gpu=never"):
        build(tmp_path, unit_vectors(3000), "Flat", gpu="auto").search(vectors[:1], k=2049)


def test_a_lossy_index_on_gpus_gives_as_many_candidates_as_they_can_select(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_two_gpus(monkeypatch, lambda index, co=None: index)
    index = build(tmp_path, unit_vectors(3000), "IVF8,PQ4x4", gpu="auto")
    assert index.is_lossy
    assert index.max_hits == 2048


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
    assert search(index, vectors[:1], k=1) == [[0]]

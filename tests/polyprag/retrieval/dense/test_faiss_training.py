import faiss
import numpy as np
import pytest

from polyprag.errors import ConfigError
from polyprag.retrieval.dense.faiss_factory import empty_index
from polyprag.retrieval.dense.faiss_training import trained_index

DIMS = 16


def correlated_vectors(count: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    falling = 1 / np.arange(1, DIMS + 1, dtype=np.float32)
    turned, _ = np.linalg.qr(generator.standard_normal((DIMS, DIMS)))
    made = (generator.standard_normal((count, DIMS)) * falling) @ turned
    return np.ascontiguousarray(made, np.float32)


@pytest.mark.parametrize("factory", ["OPQ8_16,IVF4,PQ8x4fsr", "OPQ8_16,PQ8x4"])
def test_the_rotation_fits_the_codes_better_than_what_faiss_finds_by_itself(factory: str) -> None:
    vectors = correlated_vectors(2000)
    ours = trained_index(empty_index(DIMS, factory), vectors, factory=factory, gpu="never")
    alone = empty_index(DIMS, factory)
    alone.train(vectors)
    errors = []
    for index in (ours, alone):
        decoded = index.sa_decode(index.sa_encode(vectors))
        errors.append(float(((decoded - vectors) ** 2).sum(axis=1).mean()))
    assert errors[0] < 0.95 * errors[1]


@pytest.mark.parametrize(
    "factory",
    ["Flat", "IVF4,Flat", "PCA8,IVF4,PQ4x4", "OPQ4_8,IVF4,PQ4", "OPQ4_8,Flat", "OPQ4,SQ8"],
)
def test_other_kinds_are_trained_as_faiss_trains_them(factory: str) -> None:
    vectors = correlated_vectors(400)
    ours = trained_index(empty_index(DIMS, factory), vectors, factory=factory, gpu="never")
    alone = empty_index(DIMS, factory)
    if not alone.is_trained:
        alone.train(vectors)
    np.testing.assert_array_equal(faiss.serialize_index(ours), faiss.serialize_index(alone))


@pytest.mark.parametrize("count", [2000, 3])
def test_a_rotation_keeps_nothing_that_it_was_lent(count: int) -> None:
    index = empty_index(DIMS, "OPQ8_16,PQ8x4")
    try:
        trained_index(index, correlated_vectors(count), factory="OPQ8_16,PQ8x4", gpu="never")
    except ConfigError:
        assert count == 3
    assert faiss.downcast_VectorTransform(index.chain.at(0)).pq is None

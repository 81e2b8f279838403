"""Trains empty FAISS indexes on a sample.

The k-means of an inverted file runs on GPUs where there are any, with cuVS where FAISS was built
with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError
from polyprag.retrieval.dense.faiss_factory import inverted_file, reason_of
from polyprag.retrieval.dense.faiss_index import gpu_cloning, gpus_wanted


def trained_index(
    index: Any, sample: npt.NDArray[np.float32] | None, *, factory: str, gpu: str
) -> Any:
    """Returns an index without vectors, ready to be filled.

    Args:
        index: an empty one, from `empty_index`.
        sample: (n, D) vectors to train on; None where it needs no training.
        factory: the factory string, for the error.
        gpu: `index.gpu`.

    Raises:
        ConfigError: there are too few passages for this factory string.
    """
    if index.is_trained or sample is None:
        return index
    try:
        with _k_means_on_gpus(index, gpu=gpu), _rotation_for_its_codes(index):
            index.train(sample)
    except RuntimeError as error:
        raise ConfigError(
            f"index.factory={factory!r} can't be trained on {len(sample)} passages: take a "
            f"smaller one, or Flat, which needs no training [{reason_of(error)}]"
        ) from error
    return index


@contextmanager
def _k_means_on_gpus(index: Any, *, gpu: str) -> Iterator[None]:
    ivf = inverted_file(index)
    if ivf is None or not gpus_wanted(gpu):
        yield
        return
    on_gpus = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(ivf.d), co=gpu_cloning())
    ivf.clustering_index = on_gpus  # FAISS doesn't own it: it must outlive the training
    try:
        yield
    finally:
        ivf.clustering_index = None


@contextmanager
def _rotation_for_its_codes(index: Any) -> Iterator[None]:
    """Lets OPQ find the rotation for the codes that follow it.

    By itself it looks for the best one for 8-bit codes. For 4-bit ones that takes three times as
    long, and leaves two thirds more of error (256 numbers in 128 codes).
    """
    outer: Any = faiss.downcast_index(index)
    if not isinstance(outer, faiss.IndexPreTransform):
        yield
        return
    codes: Any = getattr(inverted_file(index) or faiss.downcast_index(outer.index), "pq", None)
    chain: Any = outer.chain
    lent: list[tuple[Any, Any]] = []
    for number in range(chain.size()):
        rotation: Any = faiss.downcast_VectorTransform(chain.at(number))
        if isinstance(rotation, faiss.OPQMatrix) and codes is not None and rotation.M == codes.M:
            rotation.pq = faiss.ProductQuantizer(rotation.d_out, rotation.M, codes.nbits)
            lent.append((rotation, rotation.pq))
    try:
        yield
    finally:
        for rotation, quantizer in lent:
            rotation.pq = None
            quantizer.thisown = True  # FAISS doesn't free what it was lent

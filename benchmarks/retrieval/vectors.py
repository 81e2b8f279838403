"""Vectors that are spread as embeddings of texts are, made in chunks that needn't fit memory.

The amplitude of the i-th direction falls as 1 / sqrt(i), as the singular values of text embeddings
do; a vector is a topic's centre and something of its own, with about a hundred vectors a topic,
topics being unequal in size (Zipf). A query is a vector and noise of half its own length.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

DIMS = 256
_CHUNK = 65_536
_A_TOPIC = 100
_OWN = 0.8  # length of what a vector has of its own beside its topic's centre
Vectors = npt.NDArray[np.float32]


def _spread(count: int, seed: tuple[int, ...]) -> Vectors:
    scales_D = np.arange(1, DIMS + 1, dtype=np.float32) ** -0.5
    scales_D /= np.linalg.norm(scales_D)
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, DIMS), dtype=np.float32) * scales_D


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1."""
    lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / lengths, dtype=np.float32)


def chunks(num_vectors: int) -> Iterator[npt.NDArray[np.float16]]:
    """All vectors (n, DIMS), in chunks of 65,536, as an index of embeddings keeps them."""
    num_topics = max(1, num_vectors // _A_TOPIC)
    centres = _spread(num_topics, (0,))
    for number, start in enumerate(range(0, num_vectors, _CHUNK)):
        count = min(_CHUNK, num_vectors - start)
        uniform = np.random.default_rng((1, number)).random(count)
        topics = np.minimum((num_topics**uniform).astype(np.int64), num_topics - 1)
        made = centres[topics] + _OWN * _spread(count, (2, number))
        yield unit(made).astype(np.float16)


def queries_near(vectors: Vectors) -> Vectors:
    """A query (n, DIMS) near each vector."""
    return unit(vectors + 0.5 * _spread(len(vectors), (3,)))

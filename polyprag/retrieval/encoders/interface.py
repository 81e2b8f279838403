"""What an encoder is: passages and questions to vectors that are compared by inner product.

D numbers a vector.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Encoder(Protocol):
    """Passages and queries to vectors whose inner product says how alike they are.

    They are unit vectors unless `index.normalize=false`, and zero where nothing is known of a text.

    Attributes:
        cut: positions of the passages that were encoded last of which only the beginning was read,
            since what encodes them refused the whole.
    """

    cut: Sequence[int]

    @property
    def dims(self) -> int:
        """D, the length of the vectors."""

    def encode_passages(self, titled_texts: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Vectors (n, D), C-contiguous, of n pairs of title and text."""

    def encode_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, D), C-contiguous."""


class TextModel(Protocol):
    """Texts to vectors, whether they are passages or queries."""

    @property
    def dims(self) -> int:
        """D, the length of the vectors."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, D), C-contiguous."""


class PrefixedEncoder:
    """An encoder of one model, which tells queries from passages by what comes before them.

    Attributes:
        cut: see `Encoder`.
    """

    def __init__(self, model: TextModel, *, query_prefix: str, passage_prefix: str) -> None:
        """Wraps a model.

        Args:
            model: of passages and queries.
            query_prefix: put before each query.
            passage_prefix: put before each passage's title.
        """
        self._model, self._query_prefix, self._passage_prefix = model, query_prefix, passage_prefix
        self.cut: Sequence[int] = ()

    @property
    def dims(self) -> int:
        """D, the length of the vectors."""
        return self._model.dims

    def encode_passages(self, titled_texts: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Vectors (n, D) of titles and texts, a line break between them."""
        vectors_nD = self._model.encode(
            [passage_text(title, text, prefix=self._passage_prefix) for title, text in titled_texts]
        )
        self.cut = getattr(self._model, "cut", ())
        return vectors_nD

    def encode_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, D)."""
        return self._model.encode([self._query_prefix + query for query in queries])


def passage_text(title: str, text: str, *, prefix: str) -> str:
    """Returns a passage as the one text that an encoder reads."""
    return f"{prefix}{title}\n{text}"


def unit_vectors(vectors_nD: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the same directions (n, D) at length 1, C-contiguous; zero vectors stay zero."""
    norms_n1 = np.linalg.norm(vectors_nD, axis=1, keepdims=True)
    unit_nD = np.divide(vectors_nD, norms_n1, out=np.zeros_like(vectors_nD), where=norms_n1 > 0)
    return np.ascontiguousarray(unit_nD, dtype=np.float32)

"""The vectors of a sentence-transformers model, whose own files say how they are made."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError
from polyprag.method.unknown_tokens import mostly_unknown
from polyprag.retrieval.encoders.interface import passage_text

_LOOKED_AT = 2000  # characters of a text in which its tokens are looked for


class SentenceEncoder:
    """A sentence-transformers model."""

    cut: Sequence[int] = ()  # the model's own files say how long a text may be

    def __init__(
        self,
        path: str,
        *,
        batch_size: int,
        normalize: bool = True,
        model_prompts: bool = True,
        query_prefix: str = "",
        passage_prefix: str = "",
        gpu: str = "auto",
    ) -> None:
        """Loads the model; safetensors weights and known code only.

        Args:
            path: a directory or a hub name.
            batch_size: texts a forward pass.
            normalize: whether vectors get length 1.
            model_prompts: whether the model's own prompts for queries and documents stand before
                texts that get no prefix.
            query_prefix: put before each query in place of the model's own prompt.
            passage_prefix: put before each passage's title in place of the model's own prompt.
            gpu: `auto` puts it on the current GPU where there is one; `never` doesn't.

        Raises:
            ConfigError: the model can't be loaded.
        """
        self._batch_size, self._normalize = batch_size, normalize
        # None: sentence-transformers takes the model's own one, if it has one.
        self._query_prompt = query_prefix or (None if model_prompts else "")
        self._passage_prompt = passage_prefix or (None if model_prompts else "")
        try:
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                path,
                device="cpu" if gpu == "never" else None,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"index.encoder_path={path!r} can't be loaded: it must be a sentence-transformers "
                "directory, or a hub name and the hub reachable, with safetensors weights, and "
                f"sentence-transformers installed (`pip install polyprag[sentence]`) [{reason}]"
            ) from error

    @property
    def dims(self) -> int:
        """The length of the model's vectors."""
        return int(self._model.get_embedding_dimension() or 0)

    def encode_passages(self, titled_texts: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Vectors (n, D) of titles and texts, a line break between them."""
        texts = [passage_text(title, text, prefix="") for title, text in titled_texts]
        return self._encoded(self._model.encode_document, texts, self._passage_prompt)

    def encode_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, D)."""
        return self._encoded(self._model.encode_query, list(queries), self._query_prompt)

    def _encoded(
        self, encode: Callable[..., Any], texts: list[str], prompt: str | None
    ) -> npt.NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dims), np.float32)
        vectors_nD = encode(
            texts,
            prompt=prompt,
            batch_size=self._batch_size,
            normalize_embeddings=self._normalize,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        vectors_nD = np.ascontiguousarray(vectors_nD, dtype=np.float32)
        vectors_nD[self._unreadable(texts)] = 0
        return vectors_nD

    def _unreadable(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        tokenizer: Any = getattr(self._model, "tokenizer", None)
        if not hasattr(tokenizer, "all_special_ids"):  # of another kind of model
            return np.zeros(len(texts), bool)
        begun = [text[:_LOOKED_AT] for text in texts]
        ids = tokenizer(begun, add_special_tokens=False, verbose=False)["input_ids"]
        return mostly_unknown(tokenizer, ids)

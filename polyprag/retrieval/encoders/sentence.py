"""The vectors of a sentence-transformers model, whose own files say how they are made."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError


class SentenceEncoder:
    """A sentence-transformers model."""

    def __init__(
        self, path: str, *, batch_size: int, normalize: bool = True, gpu: str = "auto"
    ) -> None:
        """Loads the model; safetensors weights and known code only.

        Args:
            path: a directory or a hub name.
            batch_size: texts a forward pass.
            normalize: whether vectors get length 1.
            gpu: `auto` puts it on the current GPU where there is one; `never` doesn't.

        Raises:
            ConfigError: the model can't be loaded.
        """
        self._batch_size, self._normalize = batch_size, normalize
        try:
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                path,
                device="cpu" if gpu == "never" else None,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
            # What reads like a special token in a passage or a question is text.
            tokenizer = self._model.tokenizer
            is_wrapped = hasattr(tokenizer, "split_special_tokens")
            name = "split_special_tokens" if is_wrapped else "encode_special_tokens"
            setattr(tokenizer, name, True)
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

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, D)."""
        if not texts:
            return np.zeros((0, self.dims), np.float32)
        vectors_nD = self._model.encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=self._normalize,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.ascontiguousarray(vectors_nD, dtype=np.float32)

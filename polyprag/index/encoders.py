"""Encoders of texts by a neural model: the run's own base model, or any sentence encoder."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from polyprag.config import ModelConfig
from polyprag.errors import ConfigError

_MAX_TOKENS = 512  # of a passage; the rest isn't read


class Encoder(Protocol):
    """Texts to vectors whose inner product says how alike they are."""

    @property
    def dims(self) -> int:
        """D, the length of the vectors."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors (n, D), C-contiguous; a vector may be zero where nothing is known."""


class BaseModelEncoder:
    """The mean of the base model's last hidden states over a text's tokens."""

    def __init__(self, config: ModelConfig, *, batch_size: int) -> None:
        """Loads the model.

        Args:
            config: the base model.
            batch_size: texts a forward pass.

        Raises:
            ConfigError: the model can't be loaded.
        """
        from polyprag.base_model import load_base

        self._config, self._batch_size = config, batch_size
        self._model, self._tokenizer = load_base(config)

    @property
    def dims(self) -> int:
        """The model's hidden size."""
        return int(self._model.config.hidden_size)

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this encoder again, as JSON values."""
        return {"model": asdict(self._config), "batch_size": self._batch_size}

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors (n, D); texts of like length share a batch."""
        import torch

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors_nD = np.zeros((len(texts), self.dims), dtype=np.float32)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            tokens = self._tokenizer(
                [texts[i] for i in batch],
                padding=True,
                padding_side="right",
                truncation=True,
                max_length=_MAX_TOKENS,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.inference_mode():
                states_BTD = self._model.base_model(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                ).last_hidden_state.float()
            mask_BT1 = tokens["attention_mask"].unsqueeze(-1)
            sums_BD = (states_BTD * mask_BT1).sum(1)
            vectors_nD[batch] = torch.nn.functional.normalize(sums_BD).cpu().numpy()
        return vectors_nD


class SentenceEncoder:
    """A sentence-transformers model."""

    def __init__(self, path: str, *, batch_size: int) -> None:
        """Loads the model; safetensors weights and known code only.

        Args:
            path: a directory or a hub name.
            batch_size: texts a forward pass.

        Raises:
            ConfigError: the model can't be loaded.
        """
        from sentence_transformers import SentenceTransformer

        self._path, self._batch_size = path, batch_size
        try:
            self._model = SentenceTransformer(
                path, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"index.encoder_path={path!r} can't be loaded: it must be a sentence-transformers "
                f"directory, or a hub name and the hub reachable, with safetensors weights "
                f"[{reason}]"
            ) from error

    @property
    def dims(self) -> int:
        """The length of the model's vectors."""
        return int(self._model.get_embedding_dimension() or 0)

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this encoder again, as JSON values."""
        return {"path": self._path, "batch_size": self._batch_size}

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors (n, D)."""
        vectors = self._model.encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)

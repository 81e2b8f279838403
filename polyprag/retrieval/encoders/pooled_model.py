"""One vector for each text from a transformer's states: their mean, one of them, or its pooler.

B texts a forward pass, T tokens of the longest of them, D the hidden size.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError
from polyprag.method.unknown_tokens import mostly_unknown
from polyprag.retrieval.encoders.interface import unit_vectors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """How texts are read, and how their states become vectors.

    Attributes:
        kind: `mean` of a text's last hidden states, the first (`cls`) or the `last` of them, or the
            model's own output of its `pooler`.
        normalize: whether vectors get length 1.
        max_tokens: of a text, those that the tokenizer adds included; the rest isn't read.
        batch_size: texts a forward pass.
    """

    kind: str
    normalize: bool
    max_tokens: int
    batch_size: int


class PooledModel:
    """A transformer without a head, its tokenizer, and a pooling."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        pooling: Pooling,
        *,
        where: str,
    ) -> None:
        """Wraps a loaded model, and reads one word with it to learn D.

        Args:
            model: in eval mode, on its device.
            tokenizer: its own.
            pooling: see `Pooling`.
            where: the config key of the model and its value, for errors.

        Raises:
            ConfigError: the model has no such output.
        """
        self._model, self._where, self._pooling = model, where, pooling
        self._tokenizer: Any = tokenizer
        self._has_token_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._max_tokens = min(pooling.max_tokens, tokenizer.model_max_length, _window(model))
        self._dims = int(self._pooled(self._tokens(["a"], None)).shape[1])

    @property
    def dims(self) -> int:
        """D."""
        return self._dims

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> npt.NDArray[np.float32]:
        """Vectors (n, D); zero for a text without a token, or with mostly unknown ones.

        Args:
            texts: n of them, in any order; those of like length share a batch.
            pairs: a second text for each, put after it as the tokenizer joins two. Of two that are
                too long together, the longer one loses its end.
        """
        vectors_nD = np.zeros((len(texts), self.dims), np.float32)
        if not texts:
            return vectors_nD
        tokens = self._tokens(texts, pairs)
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i][0]))
        unreadable = mostly_unknown(self._tokenizer, [ids for ids, _ in tokens])
        order = [i for i in order if not unreadable[i]]
        for start in range(0, len(order), self._pooling.batch_size):
            batch = order[start : start + self._pooling.batch_size]
            vectors_nD[batch] = self._pooled([tokens[i] for i in batch]).cpu().numpy()
        return unit_vectors(vectors_nD) if self._pooling.normalize else vectors_nD

    def _tokens(
        self, texts: Sequence[str], pairs: Sequence[str] | None
    ) -> list[tuple[list[int], list[int]]]:
        """Of each text its token ids, and which of a pair's two texts each token is of."""
        encoded = self._tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation="longest_first",
            max_length=self._max_tokens,
            return_token_type_ids=self._has_token_types,
            return_attention_mask=False,
            verbose=False,
        )
        ids = encoded["input_ids"]
        kinds = encoded["token_type_ids"] if self._has_token_types else [[0] * len(i) for i in ids]
        return list(zip(ids, kinds, strict=True))

    def _pooled(self, tokens: Sequence[tuple[list[int], list[int]]]) -> "torch.Tensor":
        """Vectors (B, D) float32 of B texts of one or more tokens each."""
        import torch

        device = self._model.device
        lengths_B = torch.tensor([len(ids) for ids, _ in tokens], device=device)
        # What stands in the padding is masked, but RoBERTa counts positions by this very id.
        padding = self._tokenizer.pad_token_id or 0
        ids_BT = _padded([ids for ids, _ in tokens], padding).to(device)
        mask_BT = (torch.arange(ids_BT.shape[1], device=device) < lengths_B[:, None]).long()
        inputs = {"input_ids": ids_BT, "attention_mask": mask_BT}
        if self._has_token_types:
            inputs["token_type_ids"] = _padded([kinds for _, kinds in tokens], 0).to(device)
        with torch.inference_mode():
            output = self._model(**inputs)
            if self._pooling.kind == "pooler":
                return self._output(output, "pooler_output").float()
            states_BTD = self._output(output, "last_hidden_state").float()
            if self._pooling.kind == "cls":
                return states_BTD[:, 0]
            if self._pooling.kind == "last":
                return states_BTD[torch.arange(len(tokens), device=device), lengths_B - 1]
            # Not a product with the mask: what isn't a number there would stay so.
            inside_BTD = states_BTD.masked_fill(mask_BT[..., None] == 0, 0.0)
            return inside_BTD.sum(1) / lengths_B[:, None]

    def _output(self, output: Any, name: str) -> "torch.Tensor":
        states: torch.Tensor | None = getattr(output, name, None)
        if states is None:
            others = "mean, cls or last" if name == "pooler_output" else "pooler"
            raise ConfigError(
                f"index.pooling={self._pooling.kind} can't be used with {self._where}: a "
                f"{type(self._model).__name__} has no {name}; set index.pooling to {others}, as "
                "the model was trained"
            )
        return states


def _padded(rows: Sequence[list[int]], value: int) -> "torch.Tensor":
    """Rows (B, T) int64, filled up on the right."""
    import torch

    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def _window(model: "PreTrainedModel") -> int:
    """Returns the number of tokens that a model has positions for."""
    import torch

    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa and its like give their first positions to the padding.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)

"""What the frozen base makes of the tokens that all prompts begin with, computed once.

Experts leave these alone (`experts.skip_prefix`), so their keys and values are the same for every
mixture, and the same throughout a training. The idea is that of activated LoRA (arXiv 2504.12397).

Shapes: P tokens, H key heads of width D, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from polyprag.method.prompts import goes_on_from


@dataclass(frozen=True, slots=True, eq=False)
class SharedPrefix:
    """The tokens, and what the model keeps of them.

    Attributes:
        ids: the P tokens.
        layers: of each of the model's layers the keys and values, each (1, H, P, D) in the base's
            dtype; None for a layer that keeps none of its own.
        logits: (P, V), after each token.
    """

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor] | None, ...]
    logits: Tensor

    def __len__(self) -> int:
        """Returns the number of tokens, P."""
        return len(self.ids)

    def begins(self, prompt: Sequence[int]) -> bool:
        """Tells whether a prompt goes on from it."""
        return goes_on_from(self.ids, prompt)


@torch.no_grad()
def read_prefix(model: PreTrainedModel, ids: Sequence[int]) -> SharedPrefix:
    """Runs a model over P tokens, without any expert.

    Args:
        model: in eval mode, whole on one device; keys and values are all that it keeps.
        ids: at least one.
    """
    cache = DynamicCache()
    tokens = torch.tensor([list(ids)], device=model.device)
    logits: Tensor = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[0]
    kept: list[Any] = cache.layers
    layers = [None if each.keys is None else (each.keys, each.values) for each in kept]
    return SharedPrefix(tuple(ids), tuple(layers), logits)

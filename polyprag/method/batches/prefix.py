"""What the base makes of the tokens that several prompts begin with, computed once for them all.

A chat's system message, which experts leave alone (`experts.skip_prefix`): what is kept of it is
the same for every mixture, and throughout a training. The idea is that of activated LoRA (arXiv
2504.12397). Or a passage, of which a teacher is asked many questions.

Shapes: B rows, P tokens, H key heads of width D, V tokens of the vocabulary.
"""

import inspect
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
        logits: (P, V), after each token; None where nobody wants them.
    """

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor] | None, ...]
    logits: Tensor | None = None

    def __len__(self) -> int:
        """Returns the number of tokens, P."""
        return len(self.ids)

    def begins(self, prompt: Sequence[int]) -> bool:
        """Tells whether a prompt goes on from it."""
        return goes_on_from(self.ids, prompt)

    def cache(self, rows: int) -> DynamicCache:
        """Returns what B rows have kept that go on from it, for the model to add to."""
        cache = DynamicCache()
        for at, kept in enumerate(self.layers):
            if kept is not None:
                keys, values = (each.expand(rows, -1, -1, -1) for each in kept)
                cache.update(keys, values, at)
        return cache


@torch.no_grad()
def read_prefix(
    model: PreTrainedModel, ids: Sequence[int], *, scored: bool = False
) -> SharedPrefix:
    """Runs a model over P tokens, without any expert.

    Args:
        model: in eval mode, whole on one device; keys and values are all that it keeps.
        ids: at least one.
        scored: whether the logits are wanted.
    """
    cache = DynamicCache()
    tokens = torch.tensor([list(ids)], device=model.device)
    chosen: dict[str, Any] = {}
    if not scored and "logits_to_keep" in inspect.signature(type(model).forward).parameters:
        chosen["logits_to_keep"] = 1
    logits: Tensor = model(
        input_ids=tokens, past_key_values=cache, use_cache=True, **chosen
    ).logits[0]
    made: list[Any] = cache.layers
    layers = [None if each.keys is None else (each.keys, each.values) for each in made]
    return SharedPrefix(tuple(ids), tuple(layers), logits if scored else None)

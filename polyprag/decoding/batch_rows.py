"""The rows of a decoder's passes: prompts that are being read, sequences that are being continued.

R rows of a batch, C columns, T tokens of a pass, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polyprag.decoding.continuation import Continuation
from polyprag.decoding.sampling import logprobs_of_tokens
from polyprag.decoding.slots import SlotCache
from polyprag.method.batches.prefix import SharedPrefix
from polyprag.method.pass_gates import WideGates


@dataclass(slots=True)
class PromptRows:
    """Prompts that are being read together, one row each.

    Attributes:
        cache: what the model remembers of them.
        alike: of each prompt its continuations.
        gates: of each row; None where nobody has any.
        prefix: that they all begin with, and that was read before; None where they are read whole.
        done: columns that were read.
    """

    cache: SlotCache
    alike: list[list[Continuation]]
    gates: WideGates | None
    prefix: SharedPrefix | None = None
    done: int = 0

    def __post_init__(self) -> None:
        self.done = len(self.prefix or ())
        self.cache.open_rows(len(self.alike), prefix=self.prefix, first=self.first)
        if self.prefix is not None and self.prefix.logits is not None:
            for alike in self.alike:
                _score(alike, self.prefix.logits, done=0)

    @property
    def width(self) -> int:
        """Tokens of the longest."""
        return max(len(each.prompt) for each, *_ in self.alike)

    @property
    def is_scored(self) -> bool:
        """Whether anybody wants to know how likely a prompt's tokens were."""
        return any(each.sampling.prompt_logprobs is not None for each, *_ in self.alike)

    @property
    def first(self) -> Tensor:
        """(R,) int64, the column of each row's first token."""
        width = self.width
        return torch.tensor([width - len(each.prompt) for each, *_ in self.alike])

    def tokens(self, pad_id: int) -> Tensor:
        """Returns (R, C) ids, padded on the left."""
        ids_RC = torch.full((len(self.alike), self.width), pad_id)
        for row, (each, *_) in enumerate(self.alike):
            ids_RC[row, self.width - len(each.prompt) :] = torch.tensor(each.prompt)
        return ids_RC

    def score(self, logits_RTV: Tensor) -> None:
        """Notes how likely the prompts' tokens after those of a piece were.

        Args:
            logits_RTV: after each of the next T columns.
        """
        width, end = self.width, self.done + logits_RTV.shape[1]
        for alike, logits_TV in zip(self.alike, logits_RTV, strict=True):
            padding = width - len(alike[0].prompt)
            begin = max(self.done, padding + len(self.prefix or ()))
            if begin < end:
                _score(alike, logits_TV[begin - self.done :], done=begin - padding)


@dataclass(slots=True)
class RunningRows:
    """Sequences that are being continued, one row each; the last token of each isn't read yet."""

    cache: SlotCache
    members: list[Continuation] = field(default_factory=list)
    gates: WideGates | None = None


def _score(continuations: Sequence[Continuation], logits_TV: Tensor, *, done: int) -> None:
    """Scores a piece of one prompt.

    Args:
        continuations: of the prompt.
        logits_TV: after each of the piece's tokens.
        done: tokens before the piece.
    """
    prompt, tell = continuations[0].prompt, continuations[0].sampling.prompt_logprobs
    tokens = prompt[done + 1 : done + 1 + len(logits_TV)]
    if tell is None or not tokens:
        return
    found = logprobs_of_tokens(logits_TV[: len(tokens)], tokens, [tell] * len(tokens))
    for each in continuations:
        each.prompt_logprobs += [noted for noted in found if noted is not None]

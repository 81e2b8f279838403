"""What a model says after a prompt."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """A greedy continuation.

    Attributes:
        text: stripped, without special tokens and without what was thought before it.
        ids: its tokens, without the one that ended it.
        has_ended: whether the model ended it; else it was cut at the most new tokens.
        logprobs: of each token, natural, under the mixture and the prompt that it was said with;
            None where they weren't asked for.
        thinking: what the model thought before it answered.
    """

    text: str
    ids: tuple[int, ...]
    has_ended: bool
    logprobs: tuple[float, ...] | None = None
    thinking: str = ""

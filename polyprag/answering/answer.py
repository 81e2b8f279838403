"""An answer: its text, what it was made of, and how long that took."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyprag.answering.modes import Mode
from polyprag.answering.trust.confidence import Evidence, Trust
from polyprag.decoding.sampling import TokenLogprobs
from polyprag.retrieval.results import Hits
from sharding.printable import printable_line

_SHOWN_CHARACTERS = 72  # of a passage


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall-clock milliseconds of one question; the batch's mean where it was one of a batch."""

    retrieve_ms: float
    mix_ms: float
    generate_ms: float

    @property
    def total_ms(self) -> float:
        """All three stages."""
        return self.retrieve_ms + self.mix_ms + self.generate_ms


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a request's continuations.

    Attributes:
        text: as it came, without what ended it.
        ids: its tokens.
        finish: `stop` (the model or a stop text ended it), `length`, or `cancelled`.
        logprobs: of the tokens; empty where they weren't asked for.
    """

    text: str
    ids: tuple[int, ...]
    finish: str
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """One answer with what it came from.

    Attributes:
        text: the generated answer.
        mode: how it was made.
        hits: the passages behind it, best first; None for `closed` and `routed`.
        gates: (S, K) float32 mixture of experts; None where none was used.
        latency: of retrieval, mixing and generation.
        evidence: what speaks for it; None with `answering.abstain=never`.
        trust: whether to trust it; None with `answering.abstain=never`.
        weights: (k,) float32, what each passage's gates count in the mixture; None where none was
            mixed of passages.
        choices: the request's continuations, the first one being `text`; of an engine.
        thinking: what a model that thinks said before it.
        prompt_ids: tokens of the prompt; of an engine.
        prompt_logprobs: of these but the first, where they were asked for.
    """

    text: str
    mode: Mode
    hits: Hits | None
    gates: npt.NDArray[np.float32] | None
    latency: Latency
    evidence: Evidence | None = None
    trust: Trust | None = None
    weights: npt.NDArray[np.float32] | None = None
    choices: tuple[Choice, ...] = ()
    thinking: str = ""
    prompt_ids: tuple[int, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt had."""
        return len(self.prompt_ids)

    @property
    def confidence(self) -> float | None:
        """From 0 to 1 (`polyprag.answering.trust.confidence`); None where it wasn't looked at."""
        return None if self.trust is None else self.trust.confidence

    @property
    def trusted(self) -> bool | None:
        """Whether to trust it; None where that wasn't looked at."""
        return None if self.trust is None else self.trust.reason is None

    @property
    def reason(self) -> str | None:
        """Why it isn't to be trusted, in plain words; None where there is no reason."""
        return None if self.trust is None else self.trust.reason

    def __repr__(self) -> str:
        """Returns the answer and what it came from, a line each, as a notebook shows it."""
        lines = [f"{self.text!r}  ({self.mode}, {self.latency.total_ms:.0f} ms)"]
        if self.reason is not None:
            lines.append(f"  don't trust it: {self.reason}")
        passages = () if self.hits is None else self.hits.passages
        for at, passage in enumerate(passages):
            share = "" if self.weights is None else f"{self.weights[at]:6.2f}"
            shown = printable_line(f"{passage.title}: {passage.text}", _SHOWN_CHARACTERS)
            lines.append(f"  [{passage.key}]{share}  {shown}")
        return "\n".join(lines)

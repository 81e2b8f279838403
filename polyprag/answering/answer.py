"""An answer: its text, what it was made of, and how long that took."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyprag.answering.confidence import Evidence, Trust
from polyprag.answering.modes import Mode
from polyprag.retrieval.results import Hits


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
    """

    text: str
    mode: Mode
    hits: Hits | None
    gates: npt.NDArray[np.float32] | None
    latency: Latency
    evidence: Evidence | None = None
    trust: Trust | None = None

    @property
    def confidence(self) -> float | None:
        """From 0 to 1; see `polyprag.answering.confidence`. None where it wasn't looked at."""
        return None if self.trust is None else self.trust.confidence

    @property
    def trusted(self) -> bool | None:
        """Whether to trust it; None where that wasn't looked at."""
        return None if self.trust is None else self.trust.reason is None

    @property
    def reason(self) -> str | None:
        """Why it isn't to be trusted, in plain words; None where there is no reason."""
        return None if self.trust is None else self.trust.reason

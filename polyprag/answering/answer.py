"""An answer: its text, what it was made of, and how long that took."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    """

    text: str
    mode: Mode
    hits: Hits | None
    gates: npt.NDArray[np.float32] | None
    latency: Latency

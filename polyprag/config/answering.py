"""What becomes of an answer that isn't to be trusted."""

from dataclasses import dataclass

from polyprag.config.checks import one_of, require_numbers


@dataclass(frozen=True)
class AnsweringConfig:
    """Whether answers come with a measure of whether to trust them, and what it decides."""

    abstain: str = "tell"  # never | tell (the answer is shown with a note) | refuse (none is shown)
    # Least confidence of a trusted answer; null: the calibrated one, 0.4 without a calibration.
    threshold: float | None = None

    def __post_init__(self) -> None:
        one_of("answering.abstain", self.abstain, ("never", "tell", "refuse"))
        require_numbers(self, "answering", {"threshold": (0, 1)})

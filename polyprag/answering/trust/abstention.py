"""RUN/abstention.json: from which confidence on answers are trusted, calibrated for each mode."""

import math
from pathlib import Path
from typing import Any

from polyprag.answering.modes import MODES
from polyprag.answering.trust.confidence import FEATURES, Rule
from polyprag.config import Config
from polyprag.errors import RunError
from sharding.storage.files import exists, join
from sharding.storage.versioned import FileKind, Positive, Sha256, Stored, require_field

CALIBRATE_AGAIN = "run `polyprag calibrate RUN` again, or delete it to have the default rule"
_NAME = "abstention.json"
_FORMAT, _VERSION = "polyprag-abstention", 1


class CalibratedRule(Stored, frozen=True, kw_only=True):
    """What was calibrated for a mode.

    Attributes:
        weights: of a logistic regression, by the names of `Evidence.features`.
        intercept: of the regression.
        threshold: least confidence of an answer that is trusted.
        num_questions: that it was calibrated on.
        f1: mean over all of them.
        coverage: the share of them whose answers are trusted, each judged by a regression that
            didn't see it.
        f1_trusted: mean over these; None of none.
    """

    weights: dict[str, float]
    intercept: float
    threshold: float
    num_questions: Positive
    f1: float
    coverage: float
    f1_trusted: float | None

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        known = set(self.weights) <= set(FEATURES)
        require_field(known, "weights", f"of {', '.join(FEATURES)}")
        finite = all(map(math.isfinite, (*self.weights.values(), self.intercept)))
        require_field(finite, "weights", "finite, and intercept too")
        require_field(0 <= self.threshold <= 1, "threshold", "0 to 1")
        require_field(0 <= self.f1 <= 1, "f1", "0 to 1")
        require_field(0 <= self.coverage <= 1, "coverage", "0 to 1")
        trusted = self.f1_trusted
        require_field(trusted is None or 0 <= trusted <= 1, "f1_trusted", "0 to 1, or null")

    @property
    def rule(self) -> Rule:
        """What judges an answer."""
        return Rule(threshold=self.threshold, weights=self.weights, intercept=self.intercept)


class Abstention(Stored, frozen=True, kw_only=True):
    """The file.

    Attributes:
        experts_sha256: of the encoding that the answers came from; null where there was none.
        settings: those that the answers depended on; see `abstention_settings`.
        modes: what was calibrated, by mode.
    """

    format: str = _FORMAT
    version: int = _VERSION
    experts_sha256: Sha256 | None
    settings: dict[str, Any]
    modes: dict[str, CalibratedRule]

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        require_field(set(self.modes) <= set(MODES), "modes", f"of {', '.join(MODES)}")
        for each in self.modes.values():
            each.check()

    @classmethod
    def load(cls, run_dir: str | Path) -> "Abstention":
        """Reads and checks a run's calibration.

        Raises:
            RunError: it isn't there, or says something that can't be; names the field.
        """
        return _KIND.read(abstention_file(run_dir))

    def save(self, run_dir: str | Path) -> None:
        """Writes it into a run, in place of the one that is there."""
        self.check()
        _KIND.write(abstention_file(run_dir), self)

    def stale(self, *, experts_sha256: str | None, settings: dict[str, Any]) -> str | None:
        """Returns what is otherwise now than it was for the calibration, in words; None: nothing.

        Args:
            experts_sha256: of the encoding that is used now.
            settings: `abstention_settings` what is used now.
        """
        if self.experts_sha256 != experts_sha256:
            return "it was calibrated for other experts"
        for name, now in settings.items():
            then = self.settings.get(name)
            if then != now:
                return f"it was calibrated with {name}={then}, which is {now} now"
        return None


_KIND = FileKind(
    struct=Abstention,
    form=_FORMAT,
    version=_VERSION,
    what="a calibration of when to abstain",
    error=RunError,
    make="run `polyprag calibrate RUN` first",
    remedy=CALIBRATE_AGAIN,
)


def abstention_file(run_dir: str | Path) -> str:
    """Returns `RUN/abstention.json`."""
    return join(run_dir, _NAME)


def load_if_there(run_dir: str | Path) -> Abstention | None:
    """Returns a run's calibration, None where it has none; errors as `Abstention.load`."""
    return Abstention.load(run_dir) if exists(abstention_file(run_dir)) else None


def abstention_settings(config: Config, *, top_k: int | None = None) -> dict[str, Any]:
    """Returns the settings that decide what evidence is worth.

    Args:
        config: of a command.
        top_k: passages a question; None for `retrieval.top_k`.
    """
    retrieval = config.retrieval
    return {
        "retrieval.method": retrieval.method,
        "retrieval.reranker": retrieval.reranker,
        "retrieval.top_k": retrieval.top_k if top_k is None else top_k,
        "generation.prompt": config.generation.prompt,
        "generation.instruction": config.generation.instruction,
        "generation.max_new_tokens": config.generation.max_new_tokens,
        "model.path": config.model.path,
        "model.revision": config.model.revision,
    }

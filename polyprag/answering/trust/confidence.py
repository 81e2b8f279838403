"""Whether to trust an answer: what speaks for it, made into one number and held to a threshold.

Without a calibration the confidence is the probability of the answer's least sure token times the
share of the question that the best passage has: on its own each of the two says much less
(docs/abstention.md). A calibration (`abstention.py`) is a logistic regression.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

DEFAULT_THRESHOLD = 0.4
_LEAST_LOGPROB = -100.0  # of a token; stands for all below and for what is no number

NO_PASSAGE = "no passage was found"
NO_WORDS = "the model said nothing"
NO_MATCH = "the passages hardly match the question"
NOT_SURE = "the model isn't sure of it"


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What speaks for an answer or against it.

    Attributes:
        has_passages: whether a passage was found; None where none was looked for.
        match: how much of the question the best passage has, 0 to 1, by its words; None where
            nothing was found, or by vectors alone.
        num_tokens: of the answer.
        mean_logprob: of the answer's tokens, natural, as they were said; None of no token.
        min_logprob: of the least likely one.
        alone_logprob: their mean for the base model alone, without experts and passages; None
            where it wasn't asked for.
    """

    has_passages: bool | None
    match: float | None
    num_tokens: int
    mean_logprob: float | None
    min_logprob: float | None
    alone_logprob: float | None

    @classmethod
    def of(
        cls,
        logprobs: Sequence[float],
        *,
        alone: Sequence[float] | None = None,
        has_passages: bool | None = None,
        match: float | None = None,
    ) -> "Evidence":
        """Returns the evidence of an answer's log-probabilities and its search."""
        said = [_bounded(each) for each in logprobs]
        before = [_bounded(each) for each in alone or ()]
        return cls(
            has_passages=has_passages,
            match=match,
            num_tokens=len(said),
            mean_logprob=sum(said) / len(said) if said else None,
            min_logprob=min(said, default=None),
            alone_logprob=sum(before) / len(before) if before else None,
        )

    def features(self) -> dict[str, float]:
        """Returns what a calibration may weigh: the numbers that there are, by name."""
        named = {
            "match": self.match,
            "mean_logprob": self.mean_logprob,
            "min_logprob": self.min_logprob,
            "alone_logprob": self.alone_logprob,
            "log_tokens": math.log(self.num_tokens) if self.num_tokens else None,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def lack(self) -> str | None:
        """Why nothing can be trusted here, whatever the numbers say; None where that isn't so."""
        if self.has_passages is False:
            return NO_PASSAGE
        return None if self.num_tokens else NO_WORDS

    @property
    def weakest(self) -> str:
        """The weaker of the two that the default confidence is made of, in words."""
        surest = math.exp(self.min_logprob or 0.0)
        return NO_MATCH if self.match is not None and self.match < surest else NOT_SURE


FEATURES = ("match", "mean_logprob", "min_logprob", "alone_logprob", "log_tokens")


@dataclass(frozen=True, slots=True)
class Rule:
    """How evidence becomes a confidence, and which is enough.

    Attributes:
        threshold: least confidence of an answer that is trusted.
        weights: of a logistic regression on `Evidence.features`; None: the default confidence.
        intercept: of the regression.
    """

    threshold: float = DEFAULT_THRESHOLD
    weights: Mapping[str, float] | None = None
    intercept: float = 0.0

    def confidence(self, evidence: Evidence) -> float:
        """Returns the confidence, 0 to 1; calibrated, it is the F1 that is to be expected.

        0 where there is no passage or no answer.

        Raises:
            KeyError: the evidence lacks a number that the regression weighs.
        """
        if evidence.lack is not None:
            return 0.0
        features = evidence.features()
        if self.weights is None:
            return math.exp(features["min_logprob"]) * features.get("match", 1.0)
        logit = sum(weight * features[name] for name, weight in self.weights.items())
        return _sigmoid(logit + self.intercept)

    def judge(self, evidence: Evidence) -> "Trust":
        """Returns whether to trust an answer, and why not.

        Evidence that lacks a number which the regression weighs, such as that of given passages
        without an index, is judged by the rule without a calibration.
        """
        if self.weights and not evidence.lack and self.weights.keys() - evidence.features().keys():
            return Rule().judge(evidence)
        confidence = self.confidence(evidence)
        reason = evidence.lack
        if reason is None and confidence < self.threshold:
            reason = evidence.weakest
        return Trust(confidence, reason, is_calibrated=self.weights is not None)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether to trust an answer.

    Attributes:
        confidence: 0 to 1.
        reason: why not, in words; None where it is trusted.
        is_calibrated: whether the confidence is an F1 that is to be expected.
    """

    confidence: float
    reason: str | None
    is_calibrated: bool


def _bounded(logprob: float) -> float:
    return max(logprob, _LEAST_LOGPROB) if logprob == logprob else _LEAST_LOGPROB


def _sigmoid(logit: float) -> float:
    """Returns 1 / (1 + exp(-logit)), which doesn't overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * logit))

"""Answer scores: SQuAD's exact match and F1, answer presence, a bootstrap interval of a mean."""

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MAX_RESAMPLED_VALUES = 5_000_000  # in one vectorised piece of the bootstrap, 40 MB of float64


@dataclass(frozen=True, slots=True)
class Scores:
    """One prediction's scores, each in [0, 1] and the best over the aliases."""

    f1: float
    em: float
    contains: float


def normalize_answer(text: str) -> str:
    """Returns `text` as SQuAD compares it: lower case, no punctuation, no articles, single spaces.

    The steps and their order are those of the official evaluation script of SQuAD (Rajpurkar et
    al. 2016).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """Returns 1.0 when both are equal after normalisation, else 0.0."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def f1_score(prediction: str, answer: str) -> float:
    """Returns the F1 of the normalised tokens, counted with multiplicity.

    Where either side has no tokens the score is 1.0 if both have none, else 0.0 (SQuAD 2.0).
    """
    predicted, expected = normalize_answer(prediction).split(), normalize_answer(answer).split()
    if not predicted or not expected:
        return float(predicted == expected)
    num_same = sum((Counter(predicted) & Counter(expected)).values())
    if num_same == 0:
        return 0.0
    precision, recall = num_same / len(predicted), num_same / len(expected)
    return 2 * precision * recall / (precision + recall)


def contains_answer(prediction: str, answer: str) -> float:
    """Returns 1.0 when the answer's normalised tokens occur in the prediction, in order and whole.

    An answer that has no tokens after normalisation is never contained.
    """
    expected = normalize_answer(answer)
    return float(bool(expected) and f" {expected} " in f" {normalize_answer(prediction)} ")


def score(prediction: str, answers: Iterable[str]) -> Scores:
    """Returns the scores of a prediction against its aliases, each the maximum over them.

    Args:
        prediction: the generated answer.
        answers: the accepted answers; with none, every score is 0.
    """
    aliases = list(answers)
    return Scores(
        f1=max((f1_score(prediction, alias) for alias in aliases), default=0.0),
        em=max((exact_match(prediction, alias) for alias in aliases), default=0.0),
        contains=max((contains_answer(prediction, alias) for alias in aliases), default=0.0),
    )


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, confidence: float = 0.95, num_resamples: int = 9999
) -> tuple[float, float] | None:
    """Returns the percentile bootstrap interval of the mean over questions.

    Args:
        values: one score a question.
        seed: of the resampling; the same seed and values give the same interval.
        confidence: the interval's level.
        num_resamples: how many means the percentiles are taken of.

    Returns:
        (low, high); both are the value itself for a single question; None for no question.
    """
    if len(values) == 0:
        return None
    if len(values) == 1:
        return float(values[0]), float(values[0])
    interval = bootstrap(
        (np.asarray(values, dtype=np.float64),),
        np.mean,
        confidence_level=confidence,
        n_resamples=num_resamples,
        batch=max(1, _MAX_RESAMPLED_VALUES // len(values)),
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)

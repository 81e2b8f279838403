"""Answer scores: SQuAD's exact match and F1, answer presence, a bootstrap interval of a mean."""

import re
import string
import unicodedata
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
    al. 2016), after Unicode's normal form NFKC: a letter and its mark are the same in one character
    and in two, and so are wide and narrow forms of one letter.
    """
    text = unicodedata.normalize("NFKC", text)
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """Returns 1.0 when both are equal as they are compared, else 0.0; nothing said is never right.

    An answer that normalises to nothing ("A", "The The", "!!!") is compared as it stands, but for
    spaces; so it is in `f1_score` and `contains_answer`.
    """
    said, expected = _compared(prediction, answer)
    return float(bool(said) and said == expected)


def f1_score(prediction: str, answer: str) -> float:
    """Returns the F1 of the tokens, counted with multiplicity; 0.0 where nothing is said."""
    said, expected = (text.split() for text in _compared(prediction, answer))
    num_same = sum((Counter(said) & Counter(expected)).values())
    if num_same == 0:
        return 0.0
    precision, recall = num_same / len(said), num_same / len(expected)
    return 2 * precision * recall / (precision + recall)


def contains_answer(prediction: str, answer: str) -> float:
    """Returns 1.0 when the answer's tokens occur in the prediction, in order and whole."""
    said, expected = _compared(prediction, answer)
    return float(bool(expected) and f" {expected} " in f" {said} ")


def _compared(prediction: str, answer: str) -> tuple[str, str]:
    """Returns both as they are compared: normalised, where that leaves anything of the answer."""
    if expected := normalize_answer(answer):
        return normalize_answer(prediction), expected
    return _as_it_stands(prediction), _as_it_stands(answer)


def _as_it_stands(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


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

"""What an evaluation asks a method: all questions in chunks, and some one by one, with a clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyprag.answering.answer import Answer
from polyprag.answering.answerer import Answerer
from polyprag.answering.given import NOT_IN_CORPUS
from polyprag.answering.modes import MIXES, SEARCHES, Mode
from polyprag.evaluation.kept_answers import KeptAnswer, KeptAnswers
from polyprag.evaluation.questions import Question
from polyprag.retrieval.results import Hits
from sharding.shown_progress import Advance

LATENCY_SAMPLE = 32
LATENCY_S, _FEWEST_LATENCIES = 30.0, 5  # a slow method is asked no longer, but so many questions
_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Case:
    """A question ready for any method: its gold passages as hits where they are known."""

    question: Question
    gold: Hits | None  # None: no index was opened, or the question has no supporting passage

    @property
    def gold_ids(self) -> frozenset[int]:
        """Ids of the gold passages that are in the corpus."""
        return frozenset(() if self.gold is None else self.gold.ids.tolist()) - {NOT_IN_CORPUS}

    def is_missing(self, method: Mode) -> bool:
        """Tells whether the method lacks what it needs when gold passages replace retrieval."""
        if method not in SEARCHES:
            return False
        return self.gold is None or (method in MIXES and NOT_IN_CORPUS in self.gold.ids)


def cases_of(method: Mode, cases: Sequence[Case], gold_passages: bool) -> list[Case]:
    """Returns the questions that a method can be asked.

    Args:
        method: which.
        cases: all.
        gold_passages: whether the questions' own passages replace retrieval.
    """
    return [case for case in cases if not (gold_passages and case.is_missing(method))]


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions that a method is asked, and how.

    Attributes:
        answerer: who answers.
        method: how.
        cases: the questions.
        top_k: passages a question; None for `retrieval.top_k`.
        gold_passages: whether the questions' own passages replace retrieval.
    """

    answerer: Answerer
    method: Mode
    cases: Sequence[Case]
    top_k: int | None
    gold_passages: bool

    @property
    def ids(self) -> list[str]:
        """Of the questions."""
        return [case.question.id for case in self.cases]

    def answer(self, part: Sequence[Case], *, all_evidence: bool = False) -> list[Answer]:
        """Returns the answers to some of the questions; see `Answerer.answer`."""
        gold = [case.gold for case in part if case.gold is not None]
        return self.answerer.answer(
            [case.question.question for case in part],
            mode=self.method,
            k=self.top_k,
            hits=gold if self.gold_passages and self.method in SEARCHES else None,
            never_rows_of=[case.gold_ids for case in part],
            all_evidence=all_evidence,
        )


def ask_all(
    asked: Asked,
    there: Mapping[int, Sequence[KeptAnswer]],
    kept: KeptAnswers,
    *,
    chunk: int,
    advance: Advance,
) -> list[KeptAnswer]:
    """Returns all answers of a method: those that are there, and those that are made now.

    Args:
        asked: what the method is asked.
        there: what `kept` has of it.
        kept: gets the others.
        chunk: questions that are answered at once.
        advance: is told of those that are made now.
    """
    answers: list[KeptAnswer] = []
    all_ids = asked.ids
    for start in range(0, len(asked.cases), chunk):
        if start in there:
            answers += there[start]
            continue
        made = asked.answer(asked.cases[start : start + chunk], all_evidence=True)
        ids = all_ids[start : start + chunk]
        new = [KeptAnswer.of(name, answer) for name, answer in zip(ids, made, strict=True)]
        kept.keep(asked.method, start, new)
        answers += new
        advance(len(new), asked.method)
    return answers


def latency(asked: Asked, kept: KeptAnswers) -> dict[str, Any]:
    """Returns a method's latencies, measured now unless they were before."""
    latencies = kept.latencies(asked.method, len(asked.cases))
    if latencies is None:
        latencies = _latencies_ms(asked)
        kept.keep_latencies(asked.method, len(asked.cases), latencies)
    return {
        "latency_ms_p50": _percentile(latencies, 50),
        "latency_ms_p95": _percentile(latencies, 95),
        "n_latency": len(latencies),
    }


def _latencies_ms(asked: Asked) -> list[float]:
    """Returns milliseconds a request, one at a time, on a sample spread over the cases."""
    cases = asked.cases
    if not cases:
        return []
    sample = np.linspace(0, len(cases) - 1, num=min(LATENCY_SAMPLE, len(cases)), dtype=int)
    np.random.default_rng(0).shuffle(sample)  # so that the first ones are spread over the file, too
    for i in sample[:_WARM_UP]:
        asked.answer([cases[i]])
    latencies: list[float] = []
    for i in sample:
        if len(latencies) >= _FEWEST_LATENCIES and sum(latencies) > 1000 * LATENCY_S:
            break
        latencies.append(asked.answer([cases[i]])[0].latency.total_ms)
    return latencies


def _percentile(values: Sequence[float], q: float) -> float | None:
    return float(np.percentile(values, q)) if values else None

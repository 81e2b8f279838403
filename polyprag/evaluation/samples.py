"""Questions of a file that are shown with their answers, and whether these are right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyprag.answering.answer import Answer
from polyprag.answering.answerer import Answerer
from polyprag.answering.modes import Mode
from polyprag.evaluation.metrics import contains_answer, score
from polyprag.evaluation.questions import Question

_MOST_TRIED = 24  # questions, in search of one that is answered right


@dataclass(frozen=True, slots=True)
class ShownQuestion:
    """A question with its answer and, for comparison, what the base model says alone."""

    question: Question
    answer: Answer
    closed_book: str

    @property
    def verdict(self) -> str:
        """`right`, `wrong`, or `partly right` where some of the expected words are there."""
        return verdict(self.answer.text, self.question)


def verdict(text: str, question: Question) -> str:
    """Returns what a text is worth as an answer: `right`, `wrong` or `partly right (F1 ...)`."""
    scores = score(text, question.answers)
    if scores.em:
        return "right"
    return f"partly right (F1 {100 * scores.f1:.0f})" if scores.f1 else "wrong"


def sample_answers(
    answerer: Answerer, questions: Sequence[Question], *, num_samples: int = 3, mode: Mode = "poly"
) -> list[ShownQuestion]:
    """Returns answers to questions spread evenly over a file, right or wrong.

    Questions that no passage of theirs answers are left out, unless that leaves none: nothing can
    be learnt from how they are answered.

    Args:
        answerer: opened for `mode` and `closed`.
        questions: what to choose from.
        num_samples: how many; all questions when there are fewer.
        mode: how to answer.
    """
    chosen = _spread([q for q in questions if has_its_answer(q)] or questions, num_samples)
    texts = [question.question for question in chosen]
    answers = answerer.answer(texts, mode=mode)
    closed = answerer.answer(texts, mode="closed")
    return [
        ShownQuestion(question, answer, alone.text)
        for question, answer, alone in zip(chosen, answers, closed, strict=True)
    ]


def question_to_try(
    answerer: Answerer, questions: Sequence[Question], samples: Sequence[ShownQuestion]
) -> ShownQuestion | None:
    """Returns a question that is answered right; if few of a file are, one that isn't.

    Args:
        answerer: see `sample_answers`.
        questions: what to choose from.
        samples: of them, which are tried first.
    """
    tried = list(samples)
    if not any(sample.verdict == "right" for sample in tried):
        tried += sample_answers(answerer, questions, num_samples=_MOST_TRIED)
    return next((each for each in tried if each.verdict == "right"), tried[0] if tried else None)


def has_its_answer(question: Question) -> bool:
    """Tells whether a passage that came with the question as supporting it holds an answer."""
    return any(
        contains_answer(f"{passage.title} {passage.text}", answer)
        for passage in question.gold
        for answer in question.answers
    )


def _spread(questions: Sequence[Question], num: int) -> list[Question]:
    size = min(num, len(questions))
    places = ((2 * np.arange(size) + 1) * len(questions)) // (2 * max(1, size))
    return [questions[int(i)] for i in places]

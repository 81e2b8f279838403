"""Questions of a file that are shown with their answers, and whether these are right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyprag.answering.answer import Answer
from polyprag.answering.answerer import Answerer
from polyprag.answering.modes import Mode
from polyprag.evaluation.metrics import contains_answer, score
from polyprag.evaluation.questions import Question

_MOST_TRIED = 24  # questions


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


@dataclass(frozen=True, slots=True)
class Samples:
    """What was chosen to be shown, and what it was chosen from."""

    shown: tuple[ShownQuestion, ...]
    num_tried: int
    num_right: int  # of those tried

    @property
    def to_try(self) -> ShownQuestion | None:
        """A question to ask oneself: one that is answered right, where there is any."""
        right = (each for each in self.shown if each.verdict == "right")
        return next(right, self.shown[0] if self.shown else None)


def sample_answers(
    answerer: Answerer, questions: Sequence[Question], *, num_samples: int = 3, mode: Mode = "poly"
) -> Samples:
    """Returns questions with right answers and one with another, as far as both are found.

    Up to 24 questions, spread evenly over a file, are asked. Those that no passage of theirs
    answers are left out, unless that leaves none: nothing can be learnt from how they are answered.

    Args:
        answerer: opened for `mode` and `closed`.
        questions: what to choose from; those that nothing answers are left out.
        num_samples: how many to show; all questions when there are fewer.
        mode: how to answer.
    """
    answered = [question for question in questions if question.answers]
    tried = _spread([q for q in answered if has_its_answer(q)] or answered, _MOST_TRIED)
    answers = answerer.answer([question.question for question in tried], mode=mode)
    pairs = list(zip(tried, answers, strict=True))
    is_right = [verdict(answer.text, question) == "right" for question, answer in pairs]
    right = [n for n, ok in enumerate(is_right) if ok]
    others = [n for n, ok in enumerate(is_right) if not ok]
    most_right = max(num_samples - 1, num_samples - len(others))
    chosen = right[:most_right]
    chosen = sorted(chosen + others[: num_samples - len(chosen)])
    closed = answerer.answer([tried[n].question for n in chosen], mode="closed")
    shown = (
        ShownQuestion(*pairs[n], closed_book=alone.text)
        for n, alone in zip(chosen, closed, strict=True)
    )
    return Samples(tuple(shown), num_tried=len(tried), num_right=len(right))


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

"""A fact of a passage as the questions that ask for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProseFact:
    """One answer and the questions that have it.

    Attributes:
        questions: wordings, the plainest first.
        answer: word for word of the passage.
        said: the sentence that says it, for the answer as a whole sentence.
        is_named: whether the questions say what they are about even without the passage's title;
            None where a name anywhere in them tells.
    """

    questions: tuple[str, ...]
    answer: str
    said: str
    is_named: bool | None = None

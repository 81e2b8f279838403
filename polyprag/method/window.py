"""Texts cut to a budget of tokens: the longest start that fits, and prompts made so.

The text is cut, not its tokens: tokens at the seam with what follows depend on both sides, so each
length that is tried is tokenised as a whole. What fits is returned as token ids, as it was tried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from polyprag.errors import PolypragError
from polyprag.method.prompts import Message, PromptTokenizer, TitledText, one_line, qa_prompt


class QuestionTooLongError(PolypragError):
    """A question doesn't fit the model's window even without passages."""


@dataclass(frozen=True, slots=True)
class _Cut:
    title: str
    text: str


def prompt_tokens(model_config: Any, max_new_tokens: int) -> int | None:
    """Returns how many tokens a prompt may have; None where the model has no fixed window.

    Args:
        model_config: the transformers config (`max_position_embeddings` is the window).
        max_new_tokens: room that the answer needs.
    """
    window = getattr(model_config, "max_position_embeddings", None)
    return None if window is None else max(1, int(window) - max_new_tokens)


def longest_that_fits(
    ids_of: Callable[[int], list[int]],
    num_characters: int,
    *,
    room: int | None,
    whole: list[int] | None = None,
) -> list[int]:
    """Returns the ids of the longest start of a text that fits, by bisection.

    Args:
        ids_of: token ids of what has the first n characters of the text; the more, the longer.
        num_characters: of the whole text, which is tried first.
        room: tokens at most; None for any number.
        whole: `ids_of(num_characters)`, where it is known.

    Returns:
        `ids_of(n)` for the largest n from 0 to `num_characters` that fits; `ids_of(0)`, which are
        more than `room`, where none does.
    """
    if whole is None:
        whole = ids_of(num_characters)
    if room is None or len(whole) <= room:
        return whole
    best = ids_of(0)
    low, high = 0, num_characters
    while high - low > 1 and len(best) <= room:
        middle = (low + high) // 2
        ids = ids_of(middle)
        if len(ids) <= room:
            low, best = middle, ids
        else:
            high = middle
    return best


def first_characters(text: str, num_characters: int) -> str:
    """Returns the start of `text`, ended at a space rather than in a word where there is one."""
    if len(text) <= num_characters:
        return text
    start = text[:num_characters]
    if not text[num_characters].isspace() and " " in start:
        start = start.rsplit(" ", 1)[0]
    return start.rstrip()


def first_passages(passages: Sequence[TitledText], num_characters: int) -> list[TitledText]:
    """Returns the passages up to so many characters of text in all; the last one may be cut."""
    kept: list[TitledText] = []
    for passage in passages:
        text = one_line(passage.text)
        if start := first_characters(text, max(0, num_characters)):
            kept.append(_Cut(passage.title, start))
        num_characters -= len(text)
    return kept


def fit_prompt(
    prompts: PromptTokenizer,
    question: str,
    *,
    passages: Sequence[TitledText] = (),
    history: Sequence[Message] = (),
    max_tokens: int | None,
) -> list[int]:
    """Returns the token ids of the prompt with as much of the passages as fits.

    Args:
        prompts: the base model's.
        question: kept whole.
        passages: best first; the last ones are cut or left out.
        history: what was said before, kept whole.
        max_tokens: at most so many prompt tokens; None never cuts.

    Raises:
        QuestionTooLongError: the question, with the history, is longer than `max_tokens`.
    """

    def ids_with(num_characters: int) -> list[int]:
        kept = first_passages(passages, num_characters)
        asked = qa_prompt(question, kept)
        if history:
            return prompts.conversation_ids([*history, Message("user", asked)])
        return prompts.prompt_ids([asked])[0]

    all_characters = sum(len(one_line(passage.text)) for passage in passages)
    ids = longest_that_fits(ids_with, all_characters, room=max_tokens)
    if max_tokens is not None and len(ids) > max_tokens:
        raise QuestionTooLongError(
            f"the question {question[:60]!r}... {'with what was said before ' if history else ''}"
            f"is longer than the {max_tokens} tokens that the "
            "model's window leaves for the prompt: ask a shorter one, lower "
            "generation.max_new_tokens, or use a model with a longer window"
        )
    return ids

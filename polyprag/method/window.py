"""Prompts that fit the model's window: passages are cut, last ones first; the question stays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from polyprag.errors import PolypragError
from polyprag.method.prompts import TitledText, one_line, prompt_ids, render_prompt


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


def largest_fitting(fits: Callable[[int], bool], upper: int) -> int | None:
    """Returns the largest n in [0, upper] that fits, by bisection; None when 0 doesn't.

    Args:
        fits: true up to some n and false above it.
        upper: the first n tried.
    """
    if fits(upper):
        return upper
    if not fits(0):
        return None
    low, high = 0, upper
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


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
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    *,
    passages: Sequence[TitledText] = (),
    max_tokens: int | None,
    chat: bool = False,
) -> str:
    """Returns the rendered prompt with as much of the passages as fits.

    Args:
        tokenizer: the base model's.
        question: kept whole.
        passages: best first; the last ones are cut or left out.
        max_tokens: at most so many prompt tokens; None never cuts.
        chat: see `polyprag.method.prompts.render_prompt`.

    Raises:
        QuestionTooLongError: the question alone is longer than `max_tokens`.
    """

    def rendered(num_characters: int) -> str:
        kept = first_passages(passages, num_characters)
        return render_prompt(tokenizer, question, passages=kept, chat=chat)

    def fits(num_characters: int) -> bool:
        prompt = rendered(num_characters)
        return max_tokens is None or len(prompt_ids(tokenizer, prompt, chat=chat)) <= max_tokens

    all_characters = sum(len(one_line(passage.text)) for passage in passages)
    num_characters = largest_fitting(fits, all_characters)
    if num_characters is None:
        raise QuestionTooLongError(
            f"the question {question[:60]!r}... is longer than the {max_tokens} tokens that the "
            "model's window leaves for the prompt: ask a shorter one, lower "
            "generation.max_new_tokens, or use a model with a longer window"
        )
    return rendered(num_characters)

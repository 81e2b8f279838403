"""Prompts never exceed the window, keep the question, and lose the last passages first."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from polyprag.method.prompts import render_prompt
from polyprag.method.window import (
    QuestionTooLongError,
    first_characters,
    fit_prompt,
    largest_fitting,
    prompt_tokens,
)
from sharding.corpus.passages import Passage

FIRST = Passage(id=0, key="a", title="First", text="one two three four five six")
SECOND = Passage(id=1, key="b", title="Second", text="seven eight nine ten")


@given(st.integers(0, 50), st.integers(0, 50))
def test_bisection_finds_what_a_scan_finds(threshold: int, upper: int) -> None:
    assert largest_fitting(lambda n: n <= threshold, upper) == min(threshold, upper)
    assert largest_fitting(lambda n: False, upper) is None


def test_cuts_fall_between_words_where_there_are_any() -> None:
    assert first_characters("one two three", 13) == "one two three"
    assert first_characters("one two three", 9) == "one two"
    assert first_characters("one two three", 7) == "one two"
    assert first_characters("one two three", 2) == "on"
    assert first_characters("東京都千代田区", 3) == "東京都"
    assert first_characters("one", 0) == ""


def test_what_fits_is_not_touched(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    tokenizer = make_byte_tokenizer()
    whole = render_prompt(tokenizer, "Who?", passages=[FIRST, SECOND])
    for limit in (None, len(whole)):
        assert fit_prompt(tokenizer, "Who?", passages=[FIRST, SECOND], max_tokens=limit) == whole


def test_the_question_stays_and_the_last_passages_go_first(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    tokenizer = make_byte_tokenizer()  # one token a byte
    asked = render_prompt(tokenizer, "Who?")
    whole = render_prompt(tokenizer, "Who?", passages=[FIRST, SECOND])
    for limit in range(len(asked), len(whole)):
        prompt = fit_prompt(tokenizer, "Who?", passages=[FIRST, SECOND], max_tokens=limit)
        assert len(prompt) <= limit
        assert prompt.endswith(asked)
        if "Second" in prompt:
            assert FIRST.text in prompt
    shorter = fit_prompt(tokenizer, "Who?", passages=[FIRST, SECOND], max_tokens=len(whole) - 1)
    assert "seven eight nine\n" in shorter


def test_a_question_longer_than_the_window_is_refused(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    with pytest.raises(QuestionTooLongError, match="longer than the 20 tokens"):
        fit_prompt(make_byte_tokenizer(), "Who? " * 9, passages=[FIRST], max_tokens=20)


def test_room_for_the_answer_is_taken_from_the_window() -> None:
    class Config:
        max_position_embeddings = 512

    assert prompt_tokens(Config(), 32) == 480
    assert prompt_tokens(object(), 32) is None

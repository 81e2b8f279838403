"""Prompts never exceed the window, keep the question, and lose the last passages first."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from polyprag.method.prompts import PromptTokenizer, qa_prompt
from polyprag.method.window import (
    QuestionTooLongError,
    first_characters,
    fit_prompt,
    longest_that_fits,
    prompt_tokens,
)
from sharding.corpus.passages import Passage

FIRST = Passage(id=0, key="a", title="First", text="one two three four five six")
SECOND = Passage(id=1, key="b", title="Second", text="seven eight nine ten")


@given(
    widths=st.lists(st.integers(0, 3), max_size=50),
    prefix=st.integers(0, 5),
    room=st.none() | st.integers(0, 60),
    is_known=st.booleans(),
)
def test_bisection_finds_what_a_scan_finds(
    widths: list[int], prefix: int, room: int | None, is_known: bool
) -> None:
    """Characters of any number of tokens behind some that always stay."""
    tried: list[int] = []

    def ids_of(num_characters: int) -> list[int]:
        tried.append(num_characters)
        return list(range(prefix + sum(widths[:num_characters])))

    fitting = [n for n in range(len(widths) + 1) if room is None or len(ids_of(n)) <= room]
    expected = ids_of(fitting[-1] if fitting else 0)
    whole = ids_of(len(widths)) if is_known else None
    tried.clear()
    found = longest_that_fits(ids_of, len(widths), room=room, whole=whole)
    assert found == expected
    assert not widths or len(tried) == len(set(tried)), "nothing is tokenised twice"
    assert not (is_known and widths and len(widths) in tried)


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
    prompts = PromptTokenizer(make_byte_tokenizer())
    (whole,) = prompts.prompt_ids([qa_prompt("Who?", [FIRST, SECOND])])
    for limit in (None, len(whole)):
        assert fit_prompt(prompts, "Who?", passages=[FIRST, SECOND], max_tokens=limit) == whole


def test_the_question_stays_and_the_last_passages_go_first(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    tokenizer = make_byte_tokenizer()  # one token a byte
    prompts = PromptTokenizer(tokenizer)
    asked = qa_prompt("Who?")
    whole = qa_prompt("Who?", [FIRST, SECOND])
    for limit in range(len(asked), len(whole)):
        ids = fit_prompt(prompts, "Who?", passages=[FIRST, SECOND], max_tokens=limit)
        assert len(ids) <= limit
        prompt = tokenizer.decode(ids)
        assert [ids] == prompts.prompt_ids([prompt]), "as the cut text is tokenised"
        assert prompt.endswith(asked)
        if "Second" in prompt:
            assert FIRST.text in prompt
    shorter = fit_prompt(prompts, "Who?", passages=[FIRST, SECOND], max_tokens=len(whole) - 1)
    assert "seven eight nine\n" in tokenizer.decode(shorter)


def test_a_question_longer_than_the_window_is_refused(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> None:
    with pytest.raises(QuestionTooLongError, match="longer than the 20 tokens"):
        fit_prompt(
            PromptTokenizer(make_byte_tokenizer()), "Who? " * 9, passages=[FIRST], max_tokens=20
        )


def test_room_for_the_answer_is_taken_from_the_window() -> None:
    class Config:
        max_position_embeddings = 512

    assert prompt_tokens(Config(), 32) == 480
    assert prompt_tokens(object(), 32) is None

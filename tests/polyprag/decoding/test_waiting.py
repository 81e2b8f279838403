"""Which prompts are read together: alike in length, in order, as many as there is room for."""

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerBase

from polyprag.decoding.continuation import Continuation
from polyprag.decoding.sampling import Sampling
from polyprag.decoding.text_stream import TextStream
from polyprag.decoding.waiting import WaitingPrompts

Put = Callable[..., list[Continuation]]


@pytest.fixture
def waiting() -> WaitingPrompts:
    return WaitingPrompts()


@pytest.fixture
def put(waiting: WaitingPrompts, make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase]) -> Put:
    tokenizer = make_byte_tokenizer()

    def make(length: int, copies: int = 1) -> list[Continuation]:
        made = [
            Continuation([65] * length, sampling=Sampling(), text=TextStream(tokenizer))
            for _ in range(copies)
        ]
        waiting.put(made)
        return made

    return make


def lengths(taken: list[list[Continuation]]) -> list[int]:
    return [len(each.prompt) for each, *_ in taken]


def test_prompts_of_other_lengths_wait_for_their_own_pass(
    waiting: WaitingPrompts, put: Put
) -> None:
    for length in (400, 20, 500, 30, 450, 2000):
        put(length)
    turns = []
    while waiting:
        turns.append(lengths(waiting.take(room=8, most_tokens=4000)))
    assert turns == [[400, 500, 450], [20, 30], [2000]]


def test_short_ones_go_together_whatever_their_lengths(waiting: WaitingPrompts, put: Put) -> None:
    for length in (1, 40, 12, 48):
        put(length)
    assert lengths(waiting.take(room=8, most_tokens=4000)) == [1, 40, 12, 48]


def test_no_more_are_taken_than_tokens_and_room_allow(waiting: WaitingPrompts, put: Put) -> None:
    for length in (100, 100, 100, 100):
        put(length)
    assert lengths(waiting.take(room=8, most_tokens=250)) == [100, 100]
    assert lengths(waiting.take(room=1, most_tokens=250)) == [100]
    put(9000)
    assert lengths(waiting.take(room=1, most_tokens=250)) == [100]
    assert lengths(waiting.take(room=1, most_tokens=250)) == [9000]  # one may have more


def test_what_needs_more_room_is_not_overtaken(waiting: WaitingPrompts, put: Put) -> None:
    put(10)
    put(10, copies=4)
    put(10)
    assert lengths(waiting.take(room=3, most_tokens=4000)) == [10]
    assert waiting.take(room=3, most_tokens=4000) == []
    assert waiting.num_continuations == 5
    assert [len(each) for each in waiting.take(room=5, most_tokens=4000)] == [4, 1]


def test_cancelled_ones_are_left_out(waiting: WaitingPrompts, put: Put) -> None:
    first, second = put(10), put(10, copies=2)
    first[0].cancel()
    second[1].cancel()
    (left,) = waiting.take(room=8, most_tokens=4000)
    assert left == [second[0]]
    assert first[0].finish == second[1].finish == "cancelled"
    put(10)
    assert len(waiting.take_all()) == 1 and not waiting

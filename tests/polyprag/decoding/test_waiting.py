"""Which prompts are read together: in order, as many as there is room for, alike in length."""

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


def lengths(taken: list[list[list[Continuation]]]) -> list[list[int]]:
    return [[len(each.prompt) for each, *_ in group] for group in taken]


def test_prompts_of_other_lengths_have_a_pass_of_their_own(
    waiting: WaitingPrompts, put: Put
) -> None:
    for length in (400, 20, 500, 30, 450, 2000):
        put(length)
    taken = lengths(waiting.take(room=8, most_tokens=4000))
    assert taken == [[2000], [450, 500], [400], [20, 30]]
    assert not waiting


def test_where_a_pass_has_a_price_more_go_together(waiting: WaitingPrompts, put: Put) -> None:
    for length in (400, 20, 500, 30, 450):
        put(length)
    taken = lengths(waiting.take(room=8, most_tokens=4000, overhead=1024))
    assert taken == [[20, 30, 400, 450, 500]]


def test_no_more_are_taken_than_tokens_and_room_allow(waiting: WaitingPrompts, put: Put) -> None:
    for length in (100, 100, 100, 100):
        put(length)
    assert lengths(waiting.take(room=8, most_tokens=250)) == [[100, 100]]
    assert lengths(waiting.take(room=1, most_tokens=250)) == [[100]]
    put(9000)
    assert lengths(waiting.take(room=1, most_tokens=250)) == [[100]]
    assert lengths(waiting.take(room=1, most_tokens=250)) == [[9000]]  # one may have more


def test_what_needs_more_room_is_not_overtaken(waiting: WaitingPrompts, put: Put) -> None:
    put(10)
    put(10, copies=4)
    put(10)
    assert lengths(waiting.take(room=3, most_tokens=4000)) == [[10]]
    assert waiting.take(room=3, most_tokens=4000) == []
    assert waiting.num_continuations == 5
    ((*taken,),) = waiting.take(room=5, most_tokens=4000)
    assert [len(each) for each in taken] == [4, 1]


def test_cancelled_ones_are_left_out(waiting: WaitingPrompts, put: Put) -> None:
    first, second = put(10), put(10, copies=2)
    first[0].cancel()
    second[1].cancel()
    ((left,),) = waiting.take(room=8, most_tokens=4000)
    assert left == [second[0]]
    assert first[0].finish == second[1].finish == "cancelled"
    put(10)
    assert len(waiting.take_all()) == 1 and not waiting

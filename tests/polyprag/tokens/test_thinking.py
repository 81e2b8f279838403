"""What was thought and what is answered, whole and in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.tokens.thinking import (
    ThinkingStream,
    begins_thinking,
    split_thinking,
    without_thinking,
)

CASES = [
    ("<think>a b</think> c", ("a b", "c")),
    ("\n<think>\na\n</think>\n\nc", ("a", "c")),
    ("c", ("", "c")),
    ("<think>a", ("a", "")),
    ("<think></think>c", ("", "c")),
    ("[THINK]a[/THINK]c", ("a", "c")),
    ("1 < 2 and <th", ("", "1 < 2 and <th")),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_thinking_and_answer_are_told_apart(text: str, expected: tuple[str, str]) -> None:
    assert split_thinking(text) == expected


def test_a_block_that_the_prompt_began_ends_in_the_text() -> None:
    assert split_thinking("a</think>\n\nc") == ("a", "c")
    assert begins_thinking("<|assistant|>\n<think>\n") and not begins_thinking("Answer:")
    stream = ThinkingStream(is_inside=True)
    said = [stream.put(piece) for piece in ("a</", "think>\n", "c")]
    assert "".join(each for each, _ in said) == "a"
    assert "".join(each for _, each in said).strip() == "c"


@given(st.data())
def test_pieces_of_any_size_come_to_the_same(data: st.DataObject) -> None:
    text, (thinking, answer) = data.draw(st.sampled_from(CASES))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    stream = ThinkingStream()
    told = [*(stream.put(piece) for piece in pieces), stream.end()]
    assert "".join(each for each, _ in told).strip() == thinking
    assert "".join(each for _, each in told).strip() == answer


@given(st.text())
def test_no_text_is_lost_that_has_no_block(text: str) -> None:
    if "think" not in text.lower() and "[" not in text and "<" not in text:
        stream = ThinkingStream()
        told = [stream.put(text), stream.end()]
        assert "".join(each for _, each in told) == text
        assert without_thinking(text) == text.strip()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("<think>a</think>b", "b"),
        ("<THINKING>a</THINKING>\nb", "b"),
        ("a</think>\n\nb", "b"),
        ("<think>a", ""),
        ("[THINK]a[/THINK]b", "b"),
        ("b", "b"),
        ("<think></think>", ""),
    ],
)
def test_thinking_is_stripped(reply: str, said: str) -> None:
    assert without_thinking(reply) == said

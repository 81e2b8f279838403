"""Pieces of text as tokens come, against decoding all of them at once."""

import random
from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from polyprag.decoding.text_stream import TextStream

Tokenizers = Callable[[], PreTrainedTokenizerBase]
TEXTS = ("Łódź, Québec, 深い海, 🎉🇳🇴 and more.", "a\nb\r\n c", "", "  two  spaces ", "x" * 50)


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def sentencepiece_like() -> PreTrainedTokenizerBase:
    """Words that begin with a mark for their space, as Llama 2 has them; the first one loses it."""
    pieces = ["▁", *(f"▁{word}" for word in ("Oslo", "is", "old")), "Oslo", "s", ".", "<eos>"]
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_add_up_to_the_whole_text(make_byte_tokenizer: Tokenizers, text: str) -> None:
    tokenizer = make_byte_tokenizer()
    stream = TextStream(tokenizer)
    pieces = [stream.put(token) for token in ids_of(tokenizer, text)]
    pieces.append(stream.end())
    assert "".join(pieces) == stream.text == text
    assert not any("\ufffd" in piece for piece in pieces)  # no half of a character


def test_words_keep_their_spaces() -> None:
    tokenizer = sentencepiece_like()
    stream = TextStream(tokenizer)
    assert [stream.put(i) for i in (1, 2, 3, 6, 7)] == ["Oslo", " is", " old", ".", ""]
    assert stream.text == tokenizer.decode([1, 2, 3, 6, 7], skip_special_tokens=True)


def test_bytes_that_are_no_character_are_given_in_the_end(make_byte_tokenizer: Tokenizers) -> None:
    tokenizer = make_byte_tokenizer()
    broken = ids_of(tokenizer, "é")[:1]
    stream = TextStream(tokenizer)
    assert stream.put(broken[0]) == ""
    assert stream.end() == "\ufffd" == stream.text
    many = TextStream(tokenizer)
    assert "".join(many.put(broken[0]) for _ in range(20))  # it doesn't wait for ever


@pytest.mark.parametrize("stops", [("stop",), ("\n\n", "stop"), ("op here", "stop")])
def test_a_stop_ends_the_text_and_nothing_of_it_was_given_before(
    make_byte_tokenizer: Tokenizers, stops: tuple[str, ...]
) -> None:
    tokenizer = make_byte_tokenizer()
    stream, given = TextStream(tokenizer, stops), ""
    for token in ids_of(tokenizer, "a st\nsto stop here"):
        given += stream.put(token)
        if stream.is_stopped:
            break
        assert "a st\nsto stop here".startswith(given) and "stop" not in given
    assert given + stream.end() == stream.text == "a st\nsto "


def test_a_stop_is_found_wherever_tokens_meet(make_byte_tokenizer: Tokenizers) -> None:
    tokenizer, dice = make_byte_tokenizer(), random.Random(1)
    for _ in range(200):
        text = "".join(dice.choice("abØ\n") for _ in range(30))
        places = (dice.randrange(28), 29)
        stops = (*(text[at : at + dice.randint(1, 4)] for at in places), "ba")
        stream, given = TextStream(tokenizer, stops), ""
        for token in ids_of(tokenizer, text):
            given += stream.put(token)
            if stream.is_stopped:
                break
        given += stream.end()
        ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
        first = min(ends, default=None)
        found = [stop for stop in stops if first is not None and text[:first].endswith(stop)]
        expected = text if first is None else text[: first - max(map(len, found))]
        assert given == expected


@pytest.mark.parametrize("is_cleaned", [False, True])
def test_text_is_what_the_tokenizer_makes_of_it(is_cleaned: bool) -> None:
    """Tokenizers that clean spaces up, or decode in a way of their own, are asked themselves."""

    class Shouting(PreTrainedTokenizerFast):
        def _decode(self, *arguments: object, **options: object) -> str:
            return str(super()._decode(*arguments, **options)).upper()

    words = Tokenizer(models.WordLevel({"is": 0, "old": 1, ".": 2, "<eos>": 3}, unk_token="is"))
    words.decoder = decoders.WordPiece(cleanup=False)
    for kind in (PreTrainedTokenizerFast, Shouting):
        tokenizer = kind(
            tokenizer_object=words, eos_token="<eos>", clean_up_tokenization_spaces=is_cleaned
        )
        ids = [0, 1, 2]
        expected = tokenizer.decode(ids, skip_special_tokens=True)
        stream = TextStream(tokenizer)
        for token in ids:
            stream.put(token)
        stream.end()
        assert stream.text == expected

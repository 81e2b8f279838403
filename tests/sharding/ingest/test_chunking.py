import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding.ingest.chunking import chunk_text

texts = st.text(st.sampled_from("ab \n\t\u3000\xa0é"), max_size=60).filter(
    lambda t: bool(t.strip())
)


@given(texts, st.integers(1, 6))
def test_chunks_are_the_text_s_words_in_order_and_none_is_tiny(text: str, num_words: int) -> None:
    chunks = chunk_text(text, num_words=num_words)
    assert [word for chunk in chunks for word in chunk.split()] == text.split()
    if len(chunks) == 1:
        assert chunks == [text]
        assert len(text.split()) < 1.5 * num_words or num_words == 1
        return
    *full, last = [len(chunk.split()) for chunk in chunks]
    assert set(full) == {num_words}
    assert num_words / 2 <= last < 1.5 * num_words
    assert all(chunk == chunk.strip() and chunk in text for chunk in chunks)


@pytest.mark.parametrize(
    ("num_words", "sizes"),
    [(100, [100]), (149, [149]), (150, [100, 50]), (249, [100, 149]), (250, [100, 100, 50])],
)
def test_what_is_left_over_joins_the_last_passage_or_makes_one(
    num_words: int, sizes: list[int]
) -> None:
    chunks = chunk_text("word " * num_words, num_words=100)
    assert [len(chunk.split()) for chunk in chunks] == sizes


def test_scripts_without_spaces_are_cut_too_and_never_inside_a_letter_with_its_marks() -> None:
    chinese = "北京是中华人民共和国的首都。" * 10  # 13 letters and a full stop: 7 words
    chunks = chunk_text(chinese, num_words=7)
    assert chunks == ["北京是中华人民共和国的首都。"] * 10
    thai = "กรุงเทพมหานครเป็นเมืองหลวงที่" * 20
    chunks = chunk_text(thai, num_words=20)
    assert "".join(chunks) == thai and len(chunks) > 5
    assert not any(unicodedata.category(chunk[0]).startswith("M") for chunk in chunks)
    mixed = "She said ありがとう twice"  # She, said, three pairs, twice
    assert chunk_text(mixed, num_words=3) == ["She said あり", "がとう twice"]


def test_korean_and_hindi_are_cut_at_their_spaces() -> None:
    assert chunk_text("서울은 대한민국의 수도이다", num_words=1) == [
        "서울은",
        "대한민국의",
        "수도이다",
    ]
    assert chunk_text("दिल्ली एक नगर", num_words=1) == ["दिल्ली", "एक", "नगर"]

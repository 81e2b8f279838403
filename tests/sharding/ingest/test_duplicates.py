import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sharding.ingest import duplicates
from sharding.ingest.duplicates import find_duplicates, repeated
from sharding.ingest.splits import SplitInfo, hashes_of, key_hashes, text_hashes


@given(
    st.lists(st.lists(st.integers(0, 12), max_size=9), min_size=1), st.sampled_from([1, 3, 1 << 20])
)
def test_repeated_finds_what_a_set_finds(parts: list[list[int]], at_once: int) -> None:
    before, duplicates._AT_ONCE = duplicates._AT_ONCE, at_once
    try:
        found = repeated([np.array(part, np.uint64) for part in parts]).tolist()
    finally:
        duplicates._AT_ONCE = before
    values = [value for part in parts for value in part]
    assert found == [i for i, value in enumerate(values) if value in values[:i]]


def test_hashes_are_64_bits_of_blake2b_and_tell_titles_from_texts() -> None:
    # From `printf abc | b2sum -l 64`.
    assert hashes_of([b"abc"]).tolist() == [
        int.from_bytes(bytes.fromhex("d8bb14d833d59559"), "little")
    ]
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")]
    assert len(set(text_hashes(*zip(*pairs, strict=True)).tolist())) == 4


rows = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(1, 3), st.integers(0, 3)), max_size=8
)


@given(st.lists(rows, min_size=1, max_size=4))
def test_rows_go_as_a_whole_and_texts_after_them(
    input_splits: list[list[tuple[str, int, int]]],
) -> None:
    """Against a loop over (id, number of passages, text) that keeps sets."""
    splits, kept_ids, kept_texts, ids, texts = [], set(), set(), [], []
    position = 0
    for rows in input_splits:
        keys, sources, lines, contents = [], [], [], []
        for line, (key, size, text) in enumerate(rows, start=1):
            is_new = key not in kept_ids
            kept_ids.add(key)
            for number in range(size):
                keys.append(f"{key}#{number}")
                sources.append(key)
                lines.append(line)
                contents.append(f"{text + number}")
                if not is_new:
                    ids.append(position)
                elif contents[-1] in kept_texts:
                    texts.append(position)
                else:
                    kept_texts.add(contents[-1])
                position += 1
        splits.append(
            SplitInfo(
                url="",
                key="",
                num_passages=len(keys),
                num_lines=len(rows),
                skipped={},
                stopped_at=None,
                open_at=None,
                keys=key_hashes(keys),
                sources=key_hashes(sources),
                rows=np.array(lines, np.uint32),
                texts=text_hashes([""] * len(contents), contents),
            )
        )
    found = find_duplicates(splits)
    assert (found.ids.tolist(), found.texts.tolist()) == (ids, texts)

"""Counts that are scored when searched give what bm25s gives."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyprag.errors import RunError
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.lexical.bm25 import BM25Part, idf
from polyprag.retrieval.lexical.search import LexicalIndex
from polyprag.retrieval.lexical.term_counts import CountedPassages, TermCounts, write_term_counts
from polyprag.retrieval.lexical.term_hashes import term_hash
from polyprag.retrieval.parts.span import OpenSegment, Span

ANALYZER = Analyzer.of_language("english")
WORDS = ("oslo", "kyoto", "painter", "sailor", "north", "violin", "dvorak", "granite")
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
TitledTexts = list[tuple[str, str]]


def counts_of(directory: Path, titled_texts: TitledTexts) -> Path:
    directory.mkdir()
    write_term_counts(directory, iter(titled_texts), analyzer=ANALYZER, title_weight=2)
    return directory


def open_segments(*sizes: int) -> list[OpenSegment]:
    starts = np.cumsum([0, *sizes]).tolist()
    nothing = np.zeros(0, np.int64)
    return [
        OpenSegment(Span(start, size), nothing) for start, size in zip(starts, sizes, strict=False)
    ]


Write = Callable[..., list[Path]]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    titled_texts=st.lists(st.tuples(texts, texts), min_size=1, max_size=12),
    query=texts,
    k1=st.sampled_from([0.0, 0.9, 2.0]),
    b=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_scores_by_their_own_statistics_are_those_of_bm25s(
    write_bm25_parts: Write, titled_texts: TitledTexts, query: str, k1: float, b: float
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        (part,) = write_bm25_parts(Path(temporary) / "base", titled_texts, k1=k1, b=b)
        index = BM25Part.open(part)
        counts = TermCounts.open(counts_of(Path(temporary) / "counts", titled_texts))
        later = CountedPassages(counts, mean_length=index.mean_length, k1=k1, b=b)
        hashes = [term_hash(term) for term in ANALYZER.terms(query)]
        for hashed in map(term_hash, WORDS):
            assert counts.num_with_term(hashed) == index.num_with_term(hashed)
        weighed = [(h, idf(index.num_with_term(h), len(titled_texts))) for h in hashes]
        every = np.arange(len(titled_texts))
        _, expected = index.search(
            np.array(hashes, np.uint64),
            np.array([0, len(hashes)]),
            k=1,
            hidden=np.zeros(0, np.int64),
            also=every,
            also_starts=np.array([0, len(every)]),
        )
        np.testing.assert_allclose(later.scores(weighed), expected, rtol=1e-5, atol=1e-6)


def test_later_segments_are_scored_on_the_scale_of_the_base(
    tmp_path: Path, titled_texts: TitledTexts, write_bm25_parts: Write
) -> None:
    """The same passages again score what they score in the base, whatever else is added."""
    again = [*titled_texts, *[("Oslo", "oslo oslo oslo")] * 50]
    index = LexicalIndex.open(
        [
            write_bm25_parts(tmp_path / "a", titled_texts, num_parts=3),
            [counts_of(tmp_path / "b", again[:25]), counts_of(tmp_path / "c", again[25:])],
        ],
        open_segments(40, 90),
    )
    (found,) = index.search(["Which painter was born in Kyoto?"], k=130).rankings()
    scores = dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))
    assert scores.keys() == {i + again for i in scores if i < 40 for again in (0, 40)}
    for i in range(40):
        assert scores.get(i, 0) == pytest.approx(scores.get(i + 40, 0), rel=1e-5)
    assert np.all(np.diff(found.scores) <= 0)


def test_a_term_that_only_later_segments_have_weighs_alike_in_all_of_them(
    tmp_path: Path, write_bm25_parts: Write
) -> None:
    base = [("", "granite"), ("", "violin sonata")]
    later = [[("", "zinc mine"), ("", "zinc mine")], [("", "zinc mine")]]
    index = LexicalIndex.open(
        [
            write_bm25_parts(tmp_path / "base", base),
            *([counts_of(tmp_path / str(i), texts)] for i, texts in enumerate(later)),
        ],
        open_segments(2, 2, 1),
    )
    (found,) = index.search(["zinc"], k=5).rankings()
    assert found.ids.tolist() == [2, 3, 4]
    expected = idf(3, 5) / (1 + 0.9 * (1 - 0.4 + 0.4 * 2 / 1.5))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)


def test_hidden_passages_are_not_found(tmp_path: Path, write_bm25_parts: Write) -> None:
    passages = [("", "zinc"), ("", "zinc zinc"), ("", "zinc")]
    hidden = np.array([1])
    segments = [OpenSegment(Span(0, 3), hidden), OpenSegment(Span(3, 3), hidden)]
    base = write_bm25_parts(tmp_path / "base", passages, num_parts=2)
    index = LexicalIndex.open([base, [counts_of(tmp_path / "later", passages)]], segments)
    assert sorted(index.search(["zinc"], k=2).ids[0].tolist()) == [0, 2]
    assert sorted(index.search(["zinc"], k=9).ids[0].tolist()) == [0, 2, 3, 5]


def test_passages_without_any_term_can_be_indexed(tmp_path: Path, write_bm25_parts: Write) -> None:
    nothing = [("", "the"), ("", "of")]
    base = write_bm25_parts(tmp_path / "base", nothing)
    later = [[counts_of(tmp_path / "a", nothing)], [counts_of(tmp_path / "b", [("", "x")])]]
    index = LexicalIndex.open([base, *later], open_segments(2, 2, 1))
    assert index.search(["the"], k=3).ids[0].tolist() == []
    assert index.search(["x"], k=3).ids[0].tolist() == [4]


def test_damaged_counts_are_a_run_error(tmp_path: Path, write_bm25_parts: Write) -> None:
    passages = [("A", "apple"), ("B", "pear")]
    directory = counts_of(tmp_path / "counts", passages)
    base = write_bm25_parts(tmp_path / "base", passages)
    with pytest.raises(RunError, match="polyprag index RUN"):
        LexicalIndex.open([base, [directory]], open_segments(2, 3))
    for path in sorted(directory.glob("*.npy")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-4])
        with pytest.raises(RunError, match="polyprag index RUN"):
            TermCounts.open(directory)
        path.write_bytes(whole)


def test_the_same_passages_give_the_same_bytes(
    tmp_path: Path, titled_texts: TitledTexts, files_in: Callable[[Path], dict[str, bytes]]
) -> None:
    one, two = (counts_of(tmp_path / name, titled_texts) for name in ("one", "two"))
    assert files_in(one) == files_in(two)

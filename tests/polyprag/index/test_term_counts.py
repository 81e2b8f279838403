"""Counts that are scored when searched give what bm25s gives."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.errors import RunError
from polyprag.index.analysis import Analyzer
from polyprag.index.bm25 import BM25Index, idf, write_bm25
from polyprag.index.lexical import LexicalIndex
from polyprag.index.segments import OpenSegment, Span
from polyprag.index.term_counts import TermCounts, write_term_counts

ANALYZER = Analyzer.of_language("english")
WORDS = ("oslo", "kyoto", "painter", "sailor", "north", "violin", "dvorak", "granite")
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
TitledTexts = list[tuple[str, str]]


def bm25_of(directory: Path, titled_texts: TitledTexts, *, k1: float, b: float) -> Path:
    directory.mkdir()
    write_bm25(directory, iter(titled_texts), analyzer=ANALYZER, k1=k1, b=b, title_weight=2)
    return directory


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


@settings(max_examples=25, deadline=None)
@given(
    titled_texts=st.lists(st.tuples(texts, texts), min_size=1, max_size=12),
    query=texts,
    k1=st.sampled_from([0.0, 0.9, 2.0]),
    b=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_scores_by_their_own_statistics_are_those_of_bm25s(
    titled_texts: TitledTexts, query: str, k1: float, b: float
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        base = bm25_of(Path(temporary) / "base", titled_texts, k1=k1, b=b)
        index = BM25Index.open(base, num_passages=len(titled_texts))
        counts = TermCounts.open(
            counts_of(Path(temporary) / "counts", titled_texts),
            num_passages=len(titled_texts),
            mean_length=index.mean_length,
            k1=k1,
            b=b,
        )
        terms = ANALYZER.terms(query)
        assert all(counts.num_with(term) == index.num_with(term) for term in WORDS)
        weighed = [(term, idf(index.num_with(term), len(titled_texts))) for term in terms]
        np.testing.assert_allclose(
            counts.scores(weighed), index.scores(terms), rtol=1e-5, atol=1e-6
        )


def test_later_segments_are_scored_on_the_scale_of_the_base(
    tmp_path: Path, titled_texts: TitledTexts
) -> None:
    """The same passages again score what they score in the base, whatever else is added."""
    again = [*titled_texts, *[("Oslo", "oslo oslo oslo")] * 50]
    segments = open_segments(40, 90)
    index = LexicalIndex.open(
        [bm25_of(tmp_path / "a", titled_texts, k1=0.9, b=0.4), counts_of(tmp_path / "b", again)],
        segments,
    )
    found = index.search("Which painter was born in Kyoto?", k=130)
    scores = dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))
    assert scores.keys() == {i + again for i in scores if i < 40 for again in (0, 40)}
    for i in range(40):
        assert scores.get(i, 0) == pytest.approx(scores.get(i + 40, 0), rel=1e-5)
    assert np.all(np.diff(found.scores) <= 0)


def test_a_term_that_only_later_segments_have_weighs_alike_in_all_of_them(tmp_path: Path) -> None:
    base = [("", "granite"), ("", "violin sonata")]
    later = [[("", "zinc mine"), ("", "zinc mine")], [("", "zinc mine")]]
    index = LexicalIndex.open(
        [
            bm25_of(tmp_path / "base", base, k1=0.9, b=0.4),
            *(counts_of(tmp_path / str(i), texts) for i, texts in enumerate(later)),
        ],
        open_segments(2, 2, 1),
    )
    found = index.search("zinc", k=5)
    assert found.ids.tolist() == [2, 3, 4]
    expected = idf(3, 5) / (1 + 0.9 * (1 - 0.4 + 0.4 * 2 / 1.5))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)


def test_hidden_passages_are_not_found(tmp_path: Path) -> None:
    passages = [("", "zinc"), ("", "zinc zinc"), ("", "zinc")]
    hidden = np.array([1])
    segments = [OpenSegment(Span(0, 3), hidden), OpenSegment(Span(3, 3), hidden)]
    base = bm25_of(tmp_path / "base", passages, k1=0.9, b=0.4)
    index = LexicalIndex.open([base, counts_of(tmp_path / "later", passages)], segments)
    assert sorted(index.search("zinc", k=2).ids.tolist()) == [0, 2]
    assert sorted(index.search("zinc", k=9).ids.tolist()) == [0, 2, 3, 5]


def test_passages_without_any_term_can_be_indexed(tmp_path: Path) -> None:
    nothing = [("", "the"), ("", "of")]
    base = bm25_of(tmp_path / "base", nothing, k1=0.9, b=0.4)
    directories = [base, counts_of(tmp_path / "a", nothing), counts_of(tmp_path / "b", [("", "x")])]
    index = LexicalIndex.open(directories, open_segments(2, 2, 1))
    assert index.search("the", k=3).ids.tolist() == []
    assert index.search("x", k=3).ids.tolist() == [4]


def test_damaged_counts_are_a_run_error(tmp_path: Path) -> None:
    directory = counts_of(tmp_path / "counts", [("A", "apple"), ("B", "pear")])
    options = {"mean_length": 1.0, "k1": 0.9, "b": 0.4}
    with pytest.raises(RunError, match="polyprag index RUN"):
        TermCounts.open(directory, num_passages=3, **options)  # type: ignore[arg-type]
    for path in sorted(directory.glob("*.npy")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-4])
        with pytest.raises(RunError, match="polyprag index RUN"):
            TermCounts.open(directory, num_passages=2, **options)  # type: ignore[arg-type]
        path.write_bytes(whole)


def test_the_same_passages_give_the_same_bytes(
    tmp_path: Path, titled_texts: TitledTexts, files_in: Callable[[Path], dict[str, bytes]]
) -> None:
    one, two = (counts_of(tmp_path / name, titled_texts) for name in ("one", "two"))
    assert files_in(one) == files_in(two)

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from polyprag.errors import RunError
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.fusion import Ranking
from polyprag.retrieval.lexical.search import LexicalIndex
from polyprag.retrieval.parts.span import OpenSegment, Span

POPQA = Path(__file__).resolve().parents[4] / "examples" / "popqa"
Build = Callable[..., LexicalIndex]
QUERIES = (
    "Which composer was born in Oslo?",
    "Dvořák Dvorak painter",
    "Holm 17 sailor Kyoto",
    "years years worked",
)


def opened(parts: list[Path], num_passages: int) -> LexicalIndex:
    whole = OpenSegment(Span(0, num_passages), np.zeros(0, np.int64))
    return LexicalIndex.open([parts], [whole])


def ranked(index: LexicalIndex, query: str, *, k: int) -> Ranking:
    (ranking,) = index.search([query], k=k).rankings()
    return ranking


@pytest.fixture
def build(write_bm25_parts: Callable[..., list[Path]]) -> Callable[..., LexicalIndex]:
    def make(
        directory: Path, titled_texts: list[tuple[str, str]], **options: float
    ) -> LexicalIndex:
        return opened(write_bm25_parts(directory, titled_texts, **options), len(titled_texts))

    return make


def bm25_by_the_book(
    titled_texts: list[tuple[str, str]], query: str, k1: float, b: float, title_weight: int
) -> list[float]:
    """Robertson and Zaragoza's formula with Lucene's idf, term by term."""
    terms = Analyzer.of_language("english").terms
    passages = [terms(title) * title_weight + terms(text) for title, text in titled_texts]
    mean_length = sum(map(len, passages)) / len(passages)
    scores = []
    for passage in passages:
        score = 0.0
        for term in terms(query):
            frequency = passage.count(term)
            containing = sum(term in other for other in passages)
            idf = math.log(1 + (len(passages) - containing + 0.5) / (containing + 0.5))
            norm = k1 * (1 - b + b * len(passage) / mean_length)
            score += idf * frequency / (frequency + norm)
        scores.append(score)
    return scores


@pytest.mark.parametrize(
    ("k1", "b", "title_weight"), [(0.9, 0.4, 2), (1.2, 0.75, 1), (2.0, 0.0, 3)]
)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("num_parts", [1, 4])
def test_ranking_equals_the_formula(
    build: Build,
    tmp_path: Path,
    titled_texts: list[tuple[str, str]],
    query: str,
    k1: float,
    b: float,
    title_weight: int,
    num_parts: int,
) -> None:
    options = {"k1": k1, "b": b, "title_weight": title_weight, "num_parts": num_parts}
    index = build(tmp_path / "bm25", titled_texts, **options)
    expected = np.array(bm25_by_the_book(titled_texts, query, k1, b, title_weight), np.float32)
    found = ranked(index, query, k=40)
    assert len(found.ids) == np.count_nonzero(expected)
    np.testing.assert_allclose(found.scores, expected[found.ids], rtol=1e-5)
    np.testing.assert_allclose(found.scores, np.sort(expected)[::-1][: len(found.ids)], rtol=1e-5)


def rows_of(name: str) -> list[dict[str, Any]]:
    lines = (POPQA / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def rank_bm25_with_lucenes_idf(passages: list[list[str]], *, k1: float, b: float) -> BM25Okapi:
    """rank-bm25 with no change but its idf; its scores have a constant factor k1 + 1 more."""
    rival = BM25Okapi(passages, k1=k1, b=b)
    num_with = dict.fromkeys(rival.idf, 0)
    for counts in rival.doc_freqs:
        for term in counts:
            num_with[term] += 1
    rival.idf = {
        term: math.log(1 + (len(passages) - n + 0.5) / (n + 0.5)) for term, n in num_with.items()
    }
    return rival


def test_popqa_is_ranked_as_rank_bm25_ranks_it(build: Build, tmp_path: Path) -> None:
    titled_texts = [(row["title"], row["text"]) for row in rows_of("passages.jsonl")]
    questions = [row["question"] for row in rows_of("questions.jsonl")]
    k1, b, title_weight = 0.9, 0.4, 2
    index = build(tmp_path / "bm25", titled_texts, k1=k1, b=b, title_weight=title_weight)
    terms = Analyzer.of_language("english").terms
    rival = rank_bm25_with_lucenes_idf(
        [terms(title) * title_weight + terms(text) for title, text in titled_texts], k1=k1, b=b
    )
    for question in questions:
        scores = rival.get_scores(terms(question)) / (k1 + 1)
        found = ranked(index, question, k=20)
        assert len(found.ids) == min(20, np.count_nonzero(scores)), question
        # Place by place the score that rank-bm25 has there, and it is that passage's own: so the
        # order is the same but for scores that are equal.
        best = np.sort(scores)[::-1][: len(found.ids)]
        np.testing.assert_allclose(found.scores, best, rtol=1e-5, err_msg=question)
        np.testing.assert_allclose(found.scores, scores[found.ids], rtol=1e-5, err_msg=question)


def test_equal_scores_come_in_the_order_of_their_ids(build: Build, tmp_path: Path) -> None:
    index = build(tmp_path / "bm25", [("", "apple tree")] * 7 + [("", "pear")])
    assert ranked(index, "apples", k=3).ids.tolist() == [0, 1, 2]


def test_fewer_matches_than_k_are_all_that_is_returned(build: Build, tmp_path: Path) -> None:
    index = build(tmp_path / "bm25", [("A", "apple"), ("B", "pear"), ("C", "apple pie")])
    assert sorted(ranked(index, "apple", k=100).ids.tolist()) == [0, 2]


@pytest.mark.parametrize("query", ["", "   ", "?!", "the of and", "zzz"])
def test_a_query_without_known_terms_finds_nothing(
    build: Build, tmp_path: Path, query: str
) -> None:
    found = ranked(build(tmp_path / "bm25", [("A", "apple"), ("B", "pear")]), query, k=2)
    assert len(found.ids) == len(found.scores) == 0


def test_passages_without_any_term_can_be_indexed(build: Build, tmp_path: Path) -> None:
    index = build(tmp_path / "bm25", [("", "the"), ("", "of")])
    assert len(ranked(index, "anything", k=1).ids) == 0


def test_building_again_gives_the_same_bytes(
    build: Build, tmp_path: Path, titled_texts: list[tuple[str, str]]
) -> None:
    build(tmp_path / "one", titled_texts)
    build(tmp_path / "two", titled_texts)
    for path in (tmp_path / "one" / "part-0").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "part-0" / path.name).read_bytes(), (
            path.name
        )


def test_shards_find_what_one_index_finds(
    tmp_path: Path, titled_texts: list[tuple[str, str]], build: Build
) -> None:
    whole = build(tmp_path / "one", titled_texts)
    divided = build(tmp_path / "five", titled_texts, num_parts=5)
    for query in (*QUERIES, "born there for 12 years", "the of and"):
        for k in (1, 3, 40):
            one, other = ranked(whole, query, k=k), ranked(divided, query, k=k)
            assert one.ids.tolist() == other.ids.tolist()
            np.testing.assert_array_equal(one.scores, other.scores)


def test_a_shard_with_other_statistics_is_refused(
    tmp_path: Path, build: Build, write_bm25_parts: Callable[..., list[Path]]
) -> None:
    parts = write_bm25_parts(tmp_path / "four", [("", "apple")] * 8, num_parts=2)
    with pytest.raises(RunError, match="other passages' statistics"):
        opened(parts[:1], 4)


def test_an_index_of_another_number_of_passages_is_refused(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "bm25", [("A", "apple"), ("B", "pear")])
    with pytest.raises(RunError, match="polyprag index RUN"):
        opened([tmp_path / "bm25" / "part-0"], 3)


@pytest.mark.parametrize(
    "name",
    [
        "data.csc.index.npy",
        "indptr.csc.index.npy",
        "indices.csc.index.npy",
        "hashes.npy",
    ],
)
def test_a_truncated_file_is_a_run_error(build: Build, tmp_path: Path, name: str) -> None:
    build(tmp_path / "bm25", [("A", "apple"), ("B", "pear")])
    path = tmp_path / "bm25" / "part-0" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match="polyprag index RUN"):
        opened([tmp_path / "bm25" / "part-0"], 2)


def test_pickled_arrays_are_refused(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "bm25", [("A", "apple"), ("B", "pear")])
    path = tmp_path / "bm25" / "part-0" / "data.csc.index.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(RunError, match="polyprag index RUN"):
        opened([tmp_path / "bm25" / "part-0"], 2)

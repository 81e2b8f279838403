import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from polyprag.errors import RunError
from polyprag.index.analysis import Analyzer
from polyprag.index.bm25 import BM25Index, write_bm25

POPQA = Path(__file__).resolve().parents[3] / "examples" / "popqa"
QUERIES = (
    "Which composer was born in Oslo?",
    "Dvořák Dvorak painter",
    "Holm 17 sailor Kyoto",
    "years years worked",
)


def build(directory: Path, titled_texts: list[tuple[str, str]], **options: float) -> BM25Index:
    directory.mkdir(exist_ok=True)
    values = {"k1": 0.9, "b": 0.4, "title_weight": 2} | options
    analyzer = Analyzer.of_language("english")
    write_bm25(directory, iter(titled_texts), analyzer=analyzer, **values)  # type: ignore[arg-type]
    return BM25Index.open(directory, num_passages=len(titled_texts))


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
def test_ranking_equals_the_formula(
    tmp_path: Path,
    titled_texts: list[tuple[str, str]],
    query: str,
    k1: float,
    b: float,
    title_weight: int,
) -> None:
    index = build(tmp_path / "bm25", titled_texts, k1=k1, b=b, title_weight=title_weight)
    expected = np.array(bm25_by_the_book(titled_texts, query, k1, b, title_weight), np.float32)
    found = index.search(query, k=40)
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


def test_popqa_is_ranked_as_rank_bm25_ranks_it(tmp_path: Path) -> None:
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
        found = index.search(question, k=20)
        assert len(found.ids) == min(20, np.count_nonzero(scores)), question
        # Place by place the score that rank-bm25 has there, and it is that passage's own: so the
        # order is the same but for scores that are equal.
        best = np.sort(scores)[::-1][: len(found.ids)]
        np.testing.assert_allclose(found.scores, best, rtol=1e-5, err_msg=question)
        np.testing.assert_allclose(found.scores, scores[found.ids], rtol=1e-5, err_msg=question)


def test_equal_scores_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    index = build(tmp_path / "bm25", [("", "apple tree")] * 7 + [("", "pear")])
    assert index.search("apples", k=3).ids.tolist() == [0, 1, 2]


def test_fewer_matches_than_k_are_all_that_is_returned(tmp_path: Path) -> None:
    index = build(tmp_path / "bm25", [("A", "apple"), ("B", "pear"), ("C", "apple pie")])
    assert sorted(index.search("apple", k=100).ids.tolist()) == [0, 2]


@pytest.mark.parametrize("query", ["", "   ", "?!", "the of and", "zzz"])
def test_a_query_without_known_terms_finds_nothing(tmp_path: Path, query: str) -> None:
    found = build(tmp_path / "bm25", [("A", "apple"), ("B", "pear")]).search(query, k=2)
    assert len(found.ids) == len(found.scores) == 0


def test_passages_without_any_term_can_be_indexed(tmp_path: Path) -> None:
    index = build(tmp_path / "bm25", [("", "the"), ("", "of")])
    assert len(index.search("anything", k=1).ids) == 0


def test_building_again_gives_the_same_bytes(
    tmp_path: Path, titled_texts: list[tuple[str, str]]
) -> None:
    build(tmp_path / "one", titled_texts)
    build(tmp_path / "two", titled_texts)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_an_index_of_another_number_of_passages_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "bm25", [("A", "apple"), ("B", "pear")])
    with pytest.raises(RunError, match="polyprag index RUN"):
        BM25Index.open(tmp_path / "bm25", num_passages=3)


@pytest.mark.parametrize(
    "name", ["data.csc.index.npy", "indptr.csc.index.npy", "params.index.json", "vocab.index.json"]
)
def test_a_truncated_file_is_a_run_error(tmp_path: Path, name: str) -> None:
    build(tmp_path / "bm25", [("A", "apple"), ("B", "pear")])
    path = tmp_path / "bm25" / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match="polyprag index RUN"):
        BM25Index.open(tmp_path / "bm25", num_passages=2)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    build(tmp_path / "bm25", [("A", "apple"), ("B", "pear")])
    np.save(
        tmp_path / "bm25" / "data.csc.index.npy", np.array([{}], dtype=object), allow_pickle=True
    )
    with pytest.raises(RunError, match="polyprag index RUN"):
        BM25Index.open(tmp_path / "bm25", num_passages=2)

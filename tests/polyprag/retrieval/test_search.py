import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyprag.config import RetrievalConfig
from polyprag.errors import ConfigError, RunError
from polyprag.retrieval.fusion import Ranking, reciprocal_rank_fusion
from polyprag.retrieval.results import Hits
from polyprag.retrieval.search import METHODS, Index
from sharding.corpus.passages import Passage

IndexedRun = tuple[Path, np.ndarray]
QUERY = "Which painter was born in Kyoto?"


@pytest.mark.parametrize("method", METHODS)
def test_hits_carry_the_rows_and_passages_of_their_ids(
    indexed_run: IndexedRun, titled_texts: list[tuple[str, str]], method: str
) -> None:
    run, rows_NSK = indexed_run
    for hits in Index.open(run).search([QUERY, "Holm 27 born"], k=5, method=method):
        assert hits.ids.dtype == np.int64
        assert hits.scores.dtype == np.float32
        assert len(set(hits.ids.tolist())) == len(hits.ids) == len(hits.scores) == 5
        assert np.all(np.diff(hits.scores) <= 0)
        assert hits.rows is not None
        np.testing.assert_allclose(hits.rows, rows_NSK[hits.ids], rtol=1e-3)
        for passage_id, passage in zip(hits.ids.tolist(), hits.passages, strict=True):
            assert passage.id == passage_id
            assert passage.key == f"key-{passage_id}"
            assert (passage.title, passage.text) == titled_texts[passage_id]


def test_each_query_has_its_own_hits(indexed_run: IndexedRun) -> None:
    index = Index.open(indexed_run[0])
    queries = ["Holm 17", QUERY, "Jara 39 sailor"]
    for method in METHODS:
        together = index.search(queries, k=4, method=method)
        for query, hits in zip(queries, together, strict=True):
            assert index.search([query], k=4, method=method)[0].ids.tolist() == hits.ids.tolist()
    assert index.search(queries, k=1)[0].ids.tolist() == [17]


def test_hybrid_fuses_the_other_two(indexed_run: IndexedRun) -> None:
    index = Index.open(indexed_run[0], retrieval=RetrievalConfig(fusion="rrf"))
    rankings = [
        Ranking(hits.ids, hits.scores)
        for method in ("bm25", "dense")
        for hits in index.search([QUERY], k=40, method=method)
    ]
    expected = reciprocal_rank_fusion(rankings, k=7)
    found = index.search([QUERY], k=7, method="hybrid")[0]
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_k_above_the_corpus_and_queries_without_words_are_fine(
    indexed_run: IndexedRun, method: str
) -> None:
    index = Index.open(indexed_run[0])
    many, none = index.search([QUERY, "the zzz"], k=1000, method=method)
    assert 0 < len(many.ids) <= 40
    assert len(none.ids) == 0
    assert none.rows is not None
    assert none.rows.shape == (0, 3, 4)
    assert none.passages == ()
    assert list(index.search([], k=1, method=method)) == []


@pytest.mark.parametrize("ids", [[-1], [40], [0, 41]])
def test_unknown_ids_are_an_index_error(indexed_run: IndexedRun, ids: list[int]) -> None:
    index = Index.open(indexed_run[0])
    with pytest.raises(IndexError):
        [index.passage(i) for i in ids]
    with pytest.raises(IndexError):
        index.rows_of(ids)


def test_passages_are_found_by_title_and_text(
    indexed_run: IndexedRun, titled_texts: list[tuple[str, str]]
) -> None:
    index = Index.open(indexed_run[0])
    title, text = titled_texts[23]
    assert index.find(title, f"  {text}\n") == 23
    assert index.find(title, "something else") is None


def test_wrong_arguments_are_config_errors(indexed_run: IndexedRun) -> None:
    index = Index.open(indexed_run[0])
    with pytest.raises(ConfigError, match="bm25, dense, hybrid"):
        index.search([QUERY], k=1, method="magic")
    with pytest.raises(ConfigError, match="at least 1"):
        index.search([QUERY], k=0)


@pytest.fixture
def own_run(tmp_path: Path, indexed_run: IndexedRun) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(indexed_run[0], tmp_path / "run"))


def test_an_index_is_searched_without_its_corpus_and_encoding(own_run: Path) -> None:
    shutil.rmtree(own_run / "corpus")
    shutil.rmtree(own_run / "encoding")
    assert Index.open(own_run).search(["Holm 17"], k=1)[0].ids.tolist() == [17]


def test_no_index_is_a_run_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `polyprag index RUN` first"):
        Index.open(tmp_path)


def test_every_file_is_missed_and_every_truncation_noticed(own_run: Path) -> None:
    files = [
        path
        for path in (own_run / "index").rglob("*")
        if path.is_file() and path.name not in ("component.json", ".lock", "manifest.json")
    ]
    assert len(files) >= 14
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(RunError, match="polyprag index RUN"):
            Index.open(own_run)
        path.unlink()
        with pytest.raises(RunError, match="no such file"):
            Index.open(own_run)
        path.write_bytes(whole)
    Index.open(own_run, verify=True)


def test_a_changed_byte_is_noticed(own_run: Path) -> None:
    path = next((own_run / "index").glob("rows-*/rows.npy"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match="SHA-256"):
        Index.open(own_run)


def test_large_files_are_hashed_only_when_asked(
    own_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyprag.retrieval.parts.part.SMALL_FILE", 0)
    path = next((own_run / "index").glob("rows-*/rows.npy"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    Index.open(own_run)
    with pytest.raises(RunError, match="SHA-256"):
        Index.open(own_run, verify=True)


Change = Callable[[dict[str, Any]], object]


def bm25_of(values: dict[str, Any]) -> dict[str, Any]:
    return values["segments"][0]["components"]["bm25"][0]


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(format="other"),
        lambda values: values.update(version=99),
        lambda values: values.update(num_passages=0),
        lambda values: values.update(num_passages=41),
        lambda values: values.update(settings_sha256="x"),
        lambda values: values.update(experts_sha256=None),
        lambda values: values.update(removed=[3, 3]),
        lambda values: values.update(removed=[40]),
        lambda values: values.update(segments=[]),
        lambda values: values["segments"].append(1),
        lambda values: values["segments"].append(values["segments"][0]),
        lambda values: values["segments"][0].update(first_id=1),
        lambda values: values["segments"][0].update(num_passages=39),
        lambda values: values["segments"][0].update(shards=[]),
        lambda values: values["segments"][0].update(shards=["x"]),
        lambda values: values["segments"][0].update(row_files=[]),
        lambda values: values["segments"][0]["components"].pop("bm25"),
        lambda values: values["segments"][0]["components"].update(bm25=1),
        lambda values: bm25_of(values).update(directory="../../elsewhere"),
        lambda values: bm25_of(values).update(files={"../x": {}}),
        lambda values: bm25_of(values)["files"].update({"../x": {"num_bytes": 1, "sha256": ""}}),
    ],
)
def test_a_manifest_that_can_not_be_is_refused(own_run: Path, change: Change) -> None:
    path = own_run / "index" / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(RunError, match="polyprag index RUN"):
        Index.open(own_run)


def test_a_manifest_that_is_not_json_is_refused(own_run: Path) -> None:
    (own_run / "index" / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"manifest\.json: .*truncated.*polyprag index RUN"):
        Index.open(own_run)


def test_weighted_fusion_knows_both_scores_of_every_candidate(
    indexed_run: tuple[Path, np.ndarray],
) -> None:
    run, _ = indexed_run
    share = 0.3
    index = Index.open(run, retrieval=RetrievalConfig(fusion="weighted", dense_weight=share))
    words = dict(zip_hits(index.search([QUERY], k=40, method="bm25")[0]))
    vectors = dict(zip_hits(index.search([QUERY], k=40, method="dense")[0]))
    fused = {
        i: (1 - share) * words.get(i, 0) / max(words.values())
        + share * (vectors[i] + 1) / (max(vectors.values()) + 1)
        for i in range(40)
    }
    best = sorted(fused, key=lambda i: (-fused[i], i))
    hits = index.search([QUERY], k=10, method="hybrid")[0]
    assert hits.ids.tolist() == best[:10]
    np.testing.assert_allclose(hits.scores, [fused[i] for i in best[:10]], rtol=1e-3)


def zip_hits(hits: Hits) -> list[tuple[int, float]]:
    return list(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True))


def test_a_result_is_arrays_and_hits_at_once(indexed_run: tuple[Path, np.ndarray]) -> None:
    run, rows_NSK = indexed_run
    result = Index.open(run).search([QUERY, "zzz", "Holm 17"], k=4)
    assert result.ids.shape == result.scores.shape == (3, 4)
    assert result.rows is not None
    assert result.rows.shape == (3, 4, *rows_NSK.shape[1:])
    assert result.ids[1].tolist() == [-1] * 4
    assert np.all(result.scores[1] == -np.inf)
    assert not result.rows[1].any()
    for hits, passages, ids, rows in zip(
        result, result.passages, result.ids, result.rows, strict=True
    ):
        found = ids[ids >= 0]
        assert hits.ids.tolist() == found.tolist()
        assert list(hits.passages) == list(passages)
        assert [passage.id for passage in passages] == found.tolist()
        np.testing.assert_allclose(rows[: len(found)], rows_NSK[found], rtol=1e-3)
    tensor = result.rows_on("cpu")
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), result.rows)


def test_a_reranker_that_is_not_there_is_noticed_before_anything_is_found(
    indexed_run: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    missing = tmp_path / "no-model"
    index = Index.open(indexed_run[0], retrieval=RetrievalConfig(reranker=str(missing)))
    with pytest.raises(ConfigError, match="no-model"):
        index.search(["zzz"], k=1)  # which no passage has


@pytest.mark.parametrize("method", METHODS)
def test_a_reranker_orders_the_candidates_anew(
    indexed_run: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    run, rows_NSK = indexed_run

    class ByKey:
        """The lowest id is best."""

        def scores(self, query: str, passages: list[Passage]) -> np.ndarray:
            assert query == QUERY
            assert len(passages) == 12
            return np.array([-passage.id for passage in passages], np.float32)

    monkeypatch.setattr("polyprag.retrieval.search.CrossEncoder.open", lambda *_, **__: ByKey())
    retrieval = RetrievalConfig(reranker="some/model", rerank_depth=12)
    candidates = Index.open(run).search([QUERY], k=12, method=method)[0]
    hits = Index.open(run, retrieval=retrieval).search([QUERY], k=3, method=method)[0]
    assert hits.ids.tolist() == sorted(candidates.ids.tolist())[:3]
    assert hits.rows is not None
    np.testing.assert_allclose(hits.rows, rows_NSK[hits.ids], rtol=1e-3)

"""Passages without a word or a vector are told of, and all of them are refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polyprag.config import Config, IndexConfig
from polyprag.errors import ConfigError, CorpusError, RunError
from polyprag.retrieval.building import work
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.dense.embeddings import write_embeddings
from polyprag.retrieval.parts.serving_rows import write_rows
from polyprag.retrieval.search import Index
from sharding.ingest.prepare import prepare

CONFIG = Config(index=IndexConfig(lsa_dims=8))


def make_run(directory: Path, texts: list[str]) -> Path:
    directory.mkdir()
    source = directory / "passages.jsonl"
    rows = [json.dumps({"id": f"k{i}", "title": "", "text": text}) for i, text in enumerate(texts)]
    source.write_text("\n".join(rows), encoding="utf-8")
    prepare([str(source)], directory / "run" / "corpus", partition_size=2)
    return directory / "run"


def test_passages_without_a_word_are_counted_and_one_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", ["a red boat", "🙂 \x1b!", "blue sails", "... !", "Ἀθῆναι"])
    notes: list[str] = []
    build_index(run, CONFIG, say=notes.append)
    (note,) = notes
    assert note.startswith(
        "2 of 5 passages have no word that can be searched (index.language=english), such as "
        "passage 'k1' ('🙂 \\x1b!')"
    )


def test_a_corpus_without_any_word_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", ["🙂", "!!!", "the of and"])
    with pytest.raises(CorpusError, match=r"none of the 3 passages can be searched.*'k0'"):
        build_index(run, CONFIG)
    assert not (run / "index" / "manifest.json").exists()
    assert not list((run / "index").glob("encoder-*"))


def test_a_model_that_can_not_read_any_passage_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "a", ["a red boat", "blue sails", "green oars"])

    class Encoder:
        dims = 4
        cut: tuple[int, ...] = ()

        def __init__(self, known: str) -> None:
            self.known = known

        def encode_passages(self, titled_texts: list[tuple[str, str]]) -> np.ndarray:
            return np.float32([[self.known in text] * 4 for _, text in titled_texts])

    config = replace(CONFIG, index=replace(CONFIG.index, encoder="openai", encoder_path="m"))
    monkeypatch.setattr(
        "polyprag.retrieval.building.segment.fit_encoder",
        lambda directory, sample, config: (directory / "encoder.json").write_text(
            json.dumps({"index": {"encoder": "openai", "encoder_path": "m"}, "fitted": {"dims": 4}})
        ),
    )
    monkeypatch.setattr(work, "_encoder", lambda *_: Encoder("sea"))
    with pytest.raises(CorpusError, match=r"none of the 3 passages .*encoder=openai can read"):
        build_index(run, config)
    notes: list[str] = []
    monkeypatch.setattr(work, "_encoder", lambda *_: Encoder("red"))
    for path in (run / "index").glob("embeddings-*"):
        path.rename(path.with_name(f"old-{path.name}"))
    build_index(run, config, say=notes.append)
    assert len(notes) == 1 and notes[0].startswith("2 of 3 passages have no text that")


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("IDMap,Flat", "'IDMap'"),
        ("IDMap2,HNSW32", "'IDMap2'"),
        ("HNSW0", "'HNSW0'"),  # ends the process where it isn't refused
        ("IVF0,Flat", "'IVF0'"),
        ("NSG16,Flat", "needs 101 at least"),
        ("IVF64,Flat", "needs 64 at least"),
        ("PCA4,IVF4,PQ4", "needs 256 at least"),
        ("IVF64,Flat,RFlat", "needs 64 at least"),
        ("Nonsense", "could not parse"),
        ("PQ5x4", "vectors of 16 numbers"),
        ("LSH", "vectors of"),
    ],
)
def test_a_factory_string_that_can_not_be_used_is_refused_before_anything_is_encoded(
    tmp_path: Path, make_corpus_run: Callable[[Path], Path], factory: str, said: str
) -> None:
    run = make_corpus_run(tmp_path / "run")  # of 40 passages
    config = Config(index=IndexConfig(lsa_dims=16, factory=factory))
    with pytest.raises(ConfigError, match=r"index\.factory=") as raised:
        build_index(run, config)
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert not list((run / "index").glob("embeddings-*"))


def test_only_what_polyprag_made_is_removed_from_the_index(
    tmp_path: Path, make_corpus_run: Callable[[Path], Path]
) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, CONFIG)
    mine = ["notes", "rows", ".git", "bm25-old", "rows-0123456789abc"]
    theirs = [".rows-0123456789ab.01234567.tmp", "bm25-0123456789ab"]
    for name in mine + theirs:
        (run / "index" / name).mkdir()
        (run / "index" / name / "file").write_text("kept?")
    build_index(run, Config(index=IndexConfig(lsa_dims=4)))
    assert all((run / "index" / name / "file").exists() for name in mine)
    assert not any((run / "index" / name).exists() for name in theirs)


def test_vectors_and_rows_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    class Encoder:
        dims = 2
        cut: tuple[int, ...] = ()

        def encode_passages(self, titled_texts: list[tuple[str, str]]) -> np.ndarray:
            return np.float32([[1, np.nan if "b" in text else 1] for _, text in titled_texts])

    texts = [("", "a"), None, ("Berg", "b"), ("", "c")]
    with pytest.raises(RunError, match=r"1 of 3 passages vectors .* such as 'Berg'"):
        write_embeddings(tmp_path, texts, Encoder(), num_passages=4)

    def rows_of(ids: np.ndarray) -> np.ndarray:
        rows = np.ones((len(ids), 1, 2), np.float32)
        rows[ids == 13] = np.inf
        return rows

    with pytest.raises(RunError, match=r"row of '13' \(passage 13\) isn't finite"):
        write_rows(
            tmp_path,
            rows_of,
            shape=(8, 1, 2),
            first_id=10,
            rows_format="fp16",
            chunk=3,
            progress=lambda count: None,
        )


def test_a_search_refuses_vectors_and_rows_that_are_not_finite(
    tmp_path: Path,
    make_corpus_run: Callable[[Path], Path],
    add_encoding: Callable[..., np.ndarray],
) -> None:
    run = make_corpus_run(tmp_path / "run")
    add_encoding(run)
    build_index(run, CONFIG)
    index = Index.open(run)
    vectors = np.ones((2, 8), np.float32)
    vectors[1, 3] = np.nan
    with pytest.raises(RunError, match="question 2 of 2 holds numbers"):
        index.search_vectors(vectors, k=1)
    (rows,) = (run / "index").glob("rows-*/*.npy")
    table = np.load(rows, mmap_mode="r+")
    table[7, 0, 0] = np.nan
    table.flush()
    assert index.rows_of([6]) is not None
    with pytest.raises(RunError, match="row 7 of the segment"):
        index.rows_of([6, 7])


def test_a_question_without_a_word_says_so(
    tmp_path: Path, make_corpus_run: Callable[[Path], Path]
) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, CONFIG)
    index = Index.open(run)
    assert "no word" in index.why_nothing("the of?", method="bm25")
    assert "none of its words" in index.why_nothing("zzz", method="hybrid")
    assert "knows nothing" in index.why_nothing("zzz", method="dense")

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.errors import CorpusError, RunError
from polyprag.retrieval.parts.passages import PassageStore, write_passages
from sharding.corpus.passages import Passage

texts = st.text(st.characters(codec="utf-8"), max_size=20)


def store_of(directory: Path, titled_texts: list[tuple[str, str]]) -> PassageStore:
    passages = [Passage(i, f"k{i}", *pair) for i, pair in enumerate(titled_texts)]
    write_passages(directory, passages, num_passages=len(passages))
    return PassageStore.open(directory, num_passages=len(passages))


@settings(max_examples=15, deadline=None)
@given(titled_texts=st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_every_passage_is_read_back_and_found(titled_texts: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = store_of(Path(directory), titled_texts)
        plain = [tuple(" ".join(text.split()) for text in pair) for pair in titled_texts]
        assert list(store.titled_texts()) == titled_texts
        for i, (title, text) in enumerate(titled_texts):
            assert store[i] == Passage(i, f"k{i}", title, text)
            assert store.find(f" {title}\n", f"\t{text} ") == plain.index(plain[i])


def test_other_texts_are_not_found(tmp_path: Path) -> None:
    store = store_of(tmp_path, [("A", "one two"), ("A b", "c")])
    assert store.find("A", "one  two") == 0
    assert store.find("A", "one") is None
    assert store.find("A", "b c") is None


@pytest.mark.parametrize("passage_id", [-1, 2])
def test_ids_outside_the_store_are_refused(tmp_path: Path, passage_id: int) -> None:
    with pytest.raises(IndexError):
        store_of(tmp_path, [("A", "one"), ("B", "two")])[passage_id]


@pytest.mark.parametrize("ids", [[], [0], [0, 2], [1, 0], [0, 1, 2]])
def test_passages_other_than_the_manifests_are_a_corpus_error(
    tmp_path: Path, ids: list[int]
) -> None:
    with pytest.raises(CorpusError, match="prepare"):
        write_passages(tmp_path, [Passage(i, "k", "t", "x") for i in ids], num_passages=2)


@pytest.mark.parametrize("name", ["text.bin", "offsets.npy", "hashes.npy", "hashed-ids.npy"])
def test_a_truncated_file_is_a_run_error(tmp_path: Path, name: str) -> None:
    store_of(tmp_path, [("A", "one"), ("B", "two")])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match="polyprag index RUN"):
        PassageStore.open(tmp_path, num_passages=2)

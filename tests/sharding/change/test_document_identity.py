"""Which document a file is: by the folder that was named first, wherever that lies now."""

import shutil
from pathlib import Path

import pytest

from sharding.change.growth import Grown, append_passages
from sharding.change.keys import ids_of_documents, ids_of_keys
from sharding.change.removal import remove_passages
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.ingest.documents.names import document_of_key
from sharding.ingest.prepare import prepare

FILES = {"index.md": "# Start\n\nThe mill is old.", "policies/leave.md": "Leave is thirty days."}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def documents(corpus: Path) -> set[str | None]:
    return {document_of_key(record.passage.key) for record in Corpus.open(corpus).iterate()}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "docs", FILES)
    prepare(["docs"], tmp_path / "corpus", partition_size=8)
    return tmp_path / "corpus"


def added(corpus: Path, *sources: str | Path) -> tuple[int, int, int]:
    grown: Grown = append_passages(corpus, [str(source) for source in sources])
    return grown.num_added, grown.num_there, len(grown.outdated)


@pytest.mark.parametrize(
    ("source", "number"),
    [
        *(("docs/", 2), ("./docs", 2), ("../{here}/docs", 2), ("{root}/docs", 2)),
        *(("docs/policies", 1), ("docs/policies/leave.md", 1), ("docs/policies/*.md", 1)),
        (".", 2),  # with the folder above
    ],
)
def test_the_same_documents_however_they_are_named(
    corpus: Path, tmp_path: Path, source: str, number: int
) -> None:
    assert added(corpus, source.format(here=tmp_path.name, root=tmp_path)) == (0, number, 0)


def test_a_new_file_of_a_known_folder_is_one_of_its_documents(corpus: Path, tmp_path: Path) -> None:
    write(tmp_path / "docs", {"policies/travel.md": "Trains come first."})
    assert added(corpus, "docs/policies/travel.md") == (1, 0, 0)
    assert "policies/travel.md" in documents(corpus)
    assert added(corpus, tmp_path / "docs") == (0, 3, 0)


def test_an_edited_document_is_the_same_one_when_it_is_named_alone(corpus: Path) -> None:
    Path("docs/policies/leave.md").write_text("Leave is forty days.")
    assert added(corpus, "docs/policies/leave.md") == (1, 0, 1)


@pytest.mark.parametrize("as_folder", [True, False])
def test_another_folder_has_documents_of_its_own(
    corpus: Path, tmp_path: Path, as_folder: bool
) -> None:
    write(tmp_path / "other", {"index.md": "# Begin\n\nThe boat is new.", "x.md": "An x."})
    source = tmp_path / "other" / ("" if as_folder else "index.md")
    assert added(corpus, source) == (2 if as_folder else 1, 0, 0)
    assert "other/index.md" in documents(corpus)
    assert added(corpus, source)[0] == 0
    write(tmp_path / "other", {"index.md": "# Begin\n\nThe boat is blue."})
    assert added(corpus, source) == (1, int(as_folder), 1)
    assert added(corpus, "docs") == (0, 2, 0)


def test_folders_of_the_same_name_are_told_apart(corpus: Path, tmp_path: Path) -> None:
    for place in ("a/docs", "b/docs"):
        write(tmp_path / place, {"index.md": f"# Here\n\nThis one lies in {place}."})
        assert added(corpus, tmp_path / place) == (1, 0, 0)
    assert {"index.md", "docs/index.md", "b/docs/index.md"} <= documents(corpus)
    assert added(corpus, tmp_path / "a/docs") == (0, 1, 0)


def test_a_moved_folder_is_the_same_one(corpus: Path, tmp_path: Path) -> None:
    write(tmp_path / "docs", {"new.md": "Something new."})
    assert added(corpus, "docs") == (1, 2, 0)
    shutil.move("docs", "elsewhere")
    assert added(corpus, "elsewhere") == (0, 3, 0)
    write(tmp_path / "elsewhere", {"new.md": "Something newer."})
    assert added(corpus, "elsewhere") == (1, 2, 1)
    assert added(corpus, "elsewhere/policies") == (0, 1, 0)


def test_all_passages_of_a_document_are_found_by_its_name(tmp_path: Path) -> None:
    parts = ("# Leave", "Leave is thirty days. " * 60, "# Illness", "Call before nine. " * 60)
    leave = "\n\n".join(parts)
    write(tmp_path / "docs", FILES | {"policies/leave.md": leave})
    directory = tmp_path / "corpus"
    prepare([str(tmp_path / "docs")], directory, partition_size=2)
    corpus = Corpus.open(directory)
    of = {record.passage.id: document_of_key(record.passage.key) for record in corpus.iterate()}
    wanted = [each for each, name in of.items() if name == "policies/leave.md"]
    assert 2 <= len(wanted) < len(of)
    assert ids_of_documents(corpus, ["policies/leave.md"]) == wanted
    assert ids_of_documents(corpus, ["policies/leave.md", "index.md"]) == sorted(of)
    with pytest.raises(CorpusError, match=r"of a document 'leave\.md'; a document's name is"):
        ids_of_documents(corpus, ["leave.md", "index.md"])
    with pytest.raises(CorpusError, match="all passages of a document go by --documents"):
        ids_of_keys(corpus, ["policies/leave.md"])
    remove_passages(directory, wanted, count=lambda record: {"passage": 1})
    with pytest.raises(CorpusError, match="no passage of a document"):
        ids_of_documents(Corpus.open(directory), ["policies/leave.md"])


@pytest.mark.parametrize(
    ("source", "number"),
    [("docs", 1), ("./docs/", 1), (".", 1), ("docs/policies", 1), ("docs/index.md", 0)],
)
def test_a_document_that_is_gone_from_a_named_folder_is_noticed(
    corpus: Path, source: str, number: int
) -> None:
    write(Path("docs"), {"policies/new.md": "Boats are painted white."})
    Path("docs/policies/leave.md").rename("docs/policies/leaves.md")
    grown = append_passages(corpus, [source])
    (old,) = ids_of_documents(Corpus.open(corpus), ["policies/leave.md"])
    assert grown.outdated == [old][:number]
    remove_passages(corpus, [old], count=lambda record: {"passage": 1})
    assert append_passages(corpus, [source]).outdated == []

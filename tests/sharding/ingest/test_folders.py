from pathlib import Path

import fsspec
import pytest

from sharding.errors import CorpusError
from sharding.ingest import folders
from sharding.ingest.folders import LeftOut, find_documents
from sharding.ingest.sources import expand


def names(source: Path | str) -> list[str]:
    return [file.name for file in expand([str(source)])]


def test_single_files_and_globs_have_their_own_names(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("d/a.md", "d/b.TXT", "d/c.md", "d/notes", "d/Meeting 2024.11.03"):
        (tmp_path / name).write_text("x")
    assert names(tmp_path / "d" / "a.md") == ["a.md"]
    assert names(tmp_path / "d" / "*.md") == ["a.md", "c.md"]
    assert names(tmp_path / "d" / "notes") == ["notes"]
    assert names(tmp_path) == ["d/Meeting 2024.11.03", "d/a.md", "d/b.TXT", "d/c.md", "d/notes"]


def test_two_documents_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "index.md").write_text("x")
    with pytest.raises(CorpusError, match=r"both would be 'index.md' .* folder that both lie in"):
        expand([str(tmp_path / "a"), str(tmp_path / "b")])
    assert names(tmp_path) == ["a/index.md", "b/index.md"]


def test_a_folder_of_nothing_that_is_read_says_what_is_there(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf", "c.docx", ".d.md"):
        (tmp_path / name).write_text("x")
    with pytest.raises(CorpusError, match=r"no corpus file in it \(2 \.pdf, 1 \.docx, 1 hidden\)"):
        expand([str(tmp_path)])
    (tmp_path / "data").write_bytes(b"\xff\xfa\0")
    with pytest.raises(CorpusError, match="not a known kind"):
        expand([str(tmp_path / "data")])


def test_folders_behind_urls_are_walked_too() -> None:
    fs = fsspec.filesystem("memory")
    for name in ("docs/a.md", "docs/sub/b.rst", "docs/sub/.c.md", "docs/sub/deep/d"):
        fs.pipe(f"/{name}", b"text")
    left_out = LeftOut()
    found = expand(["memory://docs"], left_out)
    assert [(file.name, file.kind) for file in found] == [
        ("a.md", "md"),
        ("sub/b.rst", "rst"),
        ("sub/deep/d", "txt"),
    ]
    assert left_out.text() == "1 hidden"


def test_endless_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"{number}.md").write_text("x")
    monkeypatch.setattr(folders, "MAX_FILES", 3)
    with pytest.raises(CorpusError, match="over 3 files"):
        find_documents(str(tmp_path), LeftOut())
    deep = tmp_path.joinpath(*["d"] * 70)
    deep.mkdir(parents=True)
    with pytest.raises(CorpusError, match="folders deep"):
        expand([str(tmp_path / "d")])

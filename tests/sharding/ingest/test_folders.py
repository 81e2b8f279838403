from pathlib import Path

import fsspec
import pytest

from sharding.errors import CorpusError
from sharding.ingest import folders
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.folders import LeftOut, find_files
from sharding.ingest.prepare import prepare
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


def test_an_empty_folder_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(CorpusError, match="an empty folder"):
        expand([str(tmp_path / "d")], LeftOut())


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


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


LINE = '{"id": "1", "text": "The mill is old."}\n'
PACKAGE = '{"name": "docs", "version": "1.0", "description": "Our docs.", "tags": ["a"]}'
TSCONFIG = '{\n  // how it is compiled\n  "compilerOptions": {"strict": true}\n}'
OPENAPI = '{"tags": [{"name": "mills", "description": "All mills."}]}'


@pytest.mark.parametrize(
    ("files", "read", "left_out"),
    [
        # A README tells about tables, wherever they lie.
        ({"README.md": "x", "data/a.jsonl": LINE}, ["data/a.jsonl"], "1 README beside tables"),
        ({"README.md": "x", "a.csv": "id,text\n1,x", "b/c.jsonl": LINE}, ["a.csv", "b/c.jsonl"],
         "1 README beside tables"),
        ({"data/a.jsonl": LINE, "data/deep/b.csv": "id,text\n1,x\n"},
         ["data/a.jsonl", "data/deep/b.csv"], ""),
        # Documents and tables are read together.
        ({"a.md": "x", "b/c.jsonl": LINE, "b/d.md": "x"}, ["a.md", "b/c.jsonl", "b/d.md"], ""),
        # What holds no passages is left out by its name.
        ({"a.md": "x", "README.md": "x", "b/prices.csv": "p,q\n1,2\n"}, ["README.md", "a.md"],
         "1 b/prices.csv without passages"),
        ({"a.md": "x", "package.json": PACKAGE, "x/tsconfig.json": TSCONFIG}, ["a.md"],
         "1 package.json without passages, 1 x/tsconfig.json without passages"),
        ({"README.md": "x", "package.json": PACKAGE}, ["README.md"],
         "1 package.json without passages"),
        ({"a.md": "x", "openapi.json": OPENAPI, "empty.json": "[]", "n.json": "[1, 2]"}, ["a.md"],
         "1 empty.json without passages, 1 n.json without passages, "
         "1 openapi.json without passages"),
        ({"a.md": "x", "faq.json": f"[{LINE}]", "lines.json": LINE * 2},
         ["a.md", "faq.json", "lines.json"], ""),
        ({"corpus.jsonl": LINE, "queries.jsonl": LINE, "qrels/test.tsv": "id\ttext\n1\tx\n"},
         ["corpus.jsonl"], "1 .jsonl, 1 .tsv"),
    ],
)  # fmt: skip
def test_documents_and_tables_of_a_folder(
    tmp_path: Path, files: dict[str, str], read: list[str], left_out: str
) -> None:
    found = LeftOut()
    folder = written(tmp_path / "d", files)
    urls = [file.url for file in expand([str(folder)], found)]
    assert [url.removeprefix(f"{folder}/") for url in urls] == read
    assert found.text() == left_out


def test_tables_that_only_a_map_tells_are_not_left_out_silently(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", {"README.md": "x", "data/a.csv": "q,b\n1,A text of words.\n"})
    with pytest.raises(CorpusError, match=r"data/a.csv.*the fields are q, b; say --map text=b"):
        prepare([str(folder)], tmp_path / "corpus", partition_size=4)
    (folder / "a.md").write_text("Prose.")
    fields = FieldMap(text="b")
    urls = [file.url for file in expand([str(folder)], fields=fields)]
    assert f"{folder}/data/a.csv" in urls and f"{folder}/a.md" in urls
    assert [file.name for file in expand([str(folder)])] == ["README.md", "a.md"]


def test_a_damaged_table_is_told_and_not_left_out(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", {"a.md": "Prose."})
    (folder / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorpusError, match=r"b\.parquet"):
        prepare([str(folder)], tmp_path / "corpus", partition_size=4)


def test_a_run_in_a_folder_is_no_part_of_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", {"a.jsonl": LINE})
    prepare([str(folder)], folder / "runs" / "r" / "corpus", partition_size=4)
    written(folder / "runs", {"r/augment/part-00000/x.jsonl": LINE, "r/config.yaml": "x"})
    found = LeftOut()
    assert [file.url for file in expand([str(folder)], found)] == [f"{folder}/a.jsonl"]
    assert found.text() == "1 run of polyprag"


def test_a_folder_of_which_earlier_versions_read_less_says_what_to_do(tmp_path: Path) -> None:
    """They passed over documents beside tables, and over tables below a folder."""
    folder = written(tmp_path / "d", {"a.jsonl": LINE})
    prepare([str(folder)], tmp_path / "corpus", partition_size=4)
    before = (tmp_path / "corpus" / "manifest.json").read_bytes()
    written(folder, {"notes.txt": "A note.", "more/b.jsonl": LINE.replace("1", "2")})
    with pytest.raises(CorpusError, match=r"but for 2 \(.*more/b.jsonl, .*notes.txt\).*add RUN"):
        prepare([str(folder)], tmp_path / "corpus", partition_size=4)
    prepare([str(folder / "a.jsonl")], tmp_path / "corpus", partition_size=4)
    assert (tmp_path / "corpus" / "manifest.json").read_bytes() == before
    (folder / "a.jsonl").write_text(LINE.replace("old", "new"))
    with pytest.raises(CorpusError, match="from other files"):
        prepare([str(folder)], tmp_path / "corpus", partition_size=4)


def test_many_tables_without_passages_are_counted(tmp_path: Path) -> None:
    files = {f"{n}.json": "{}" for n in range(11)} | {"a.md": "x"}
    found = LeftOut()
    expand([str(written(tmp_path / "d", files))], found)
    assert found.text() == "11 .json without passages"


def test_endless_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"{number}.md").write_text("x")
    monkeypatch.setattr(folders, "MAX_FILES", 3)
    with pytest.raises(CorpusError, match="over 3 files"):
        find_files(str(tmp_path), LeftOut())
    deep = tmp_path.joinpath(*["d"] * 70)
    deep.mkdir(parents=True)
    with pytest.raises(CorpusError, match="folders deep"):
        expand([str(tmp_path / "d")])

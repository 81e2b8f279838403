"""`polyprag prepare` and `add` on folders of documents."""

import codecs
import gzip
import os
from pathlib import Path

import zstandard
from click.testing import CliRunner

from polyprag.cli.main import main
from sharding.corpus.passages import Passage
from sharding.corpus.reader import Corpus
from sharding.ingest.documents.names import passage_key


def words(number: int, word: str = "w") -> str:
    return " ".join(f"{word}{n}" for n in range(number))


def passages(corpus_dir: Path) -> list[Passage]:
    return [record.passage for record in Corpus.open(corpus_dir).iterate()]


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


FORMATS: dict[str, str | bytes] = {
    "a.md": "# Lamp\n\nIt is *red*.",
    "b/care.markdown": "Keep it dry.",
    "c.txt": "Shipping\n\nWe ship\non Mondays.",
    "d.rst": "Guide\n=====\n\nPress ``on``.",
    "e.html": "<title>Returns | Acme</title><h1>Returns</h1><p>Within 30 days.</p>",
    "f.htm.gz": gzip.compress(b"<h1>Repairs</h1><p>We repair.</p>"),
    "g.md.zst": zstandard.compress(b"# Zip\n\nIt unfolds."),
    "notes": "Just notes.",
    "page": "<!doctype html><html><body><h1>Page</h1><p>No name.</p></body></html>",
    "u.txt": "Größe: 30 cm".encode("utf-16"),
    "v.txt": codecs.BOM_UTF8 + b"Marked.",
}
LEFT_OUT: dict[str, str | bytes] = {
    ".git/config.md": "hidden",
    ".hidden.md": "hidden",
    "~$word.txt": "hidden",
    "node_modules/x/README.md": "no",
    "logo.png": b"\x89PNG",
    "b/logo2.PNG": b"\x89PNG",
    "manual.pdf": b"%PDF",
    "blob": b"x\0y",
}


def test_a_folder_of_every_format_by_the_command(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", FORMATS | LEFT_OUT)
    (folder / "loop").symlink_to(folder)
    (folder / "linked.md").symlink_to(folder / "a.md")
    os.mkfifo(folder / "pipe.md")
    run = tmp_path / "run"
    result = CliRunner().invoke(main, ["prepare", str(run), str(folder)])
    assert result.exit_code == 0, result.output
    assert [(each.title, each.text) for each in passages(run / "corpus")] == [
        ("Lamp", "It is red."),
        ("care", "Keep it dry."),
        ("Shipping", "We ship on Mondays."),
        ("Guide", "Press on."),
        ("Returns", "Within 30 days."),
        ("Repairs", "We repair."),
        ("Zip", "It unfolds."),
        ("notes", "Just notes."),
        ("Page", "No name."),
        ("u", "Größe: 30 cm"),
        ("v", "Marked."),
    ]
    for each in passages(run / "corpus"):
        name = each.key.rpartition("#")[0]
        assert name in FORMATS and each.key == passage_key(name, "", each.title, each.text)
    (line,) = [line for line in result.output.splitlines() if line.startswith("left out: ")]
    assert set(line.removeprefix("left out: ").split(", ")) == {
        "3 hidden",
        "2 .png",
        "2 linked",
        "1 .pdf",
        "1 node_modules",
        "1 of no known kind",
        "1 no files",
    }
    again = CliRunner().invoke(main, ["prepare", str(run), str(folder)])
    assert again.exit_code == 0, again.output


def test_add_by_the_command_says_how_old_passages_go(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", {"a.md": f"# A\n\n{words(60)}\n\n## B\n\n{words(60)}"})
    run = str(tmp_path / "run")
    assert CliRunner().invoke(main, ["prepare", run, str(folder)]).exit_code == 0
    write(folder, {"a.md": f"# A\n\n{words(60)}\n\n## B\n\n{words(61)}"})
    result = CliRunner().invoke(main, ["add", run, str(folder)])
    assert result.exit_code == 0, result.output
    assert f"polyprag remove {run} --ids 1" in result.output
    removed = CliRunner().invoke(main, ["remove", run, "--ids", "1", "--yes"])
    assert removed.exit_code == 0, removed.output
    result = CliRunner().invoke(main, ["add", run, str(folder)])
    assert "polyprag remove" not in result.output


def test_documents_that_are_left_out_are_named(tmp_path: Path) -> None:
    """Two of one group and one of another file name, among good ones."""
    bad: dict[str, str | bytes] = {"b.txt": b"Gr\xf6\xdfe", "c/d.txt": b"a\0b", "e.md": "# Title"}
    folder = write(tmp_path / "docs", {"a.md": f"# A\n\n{words(60)}", "z.md": "Good."} | bad)
    run = str(tmp_path / "run")
    assert CliRunner().invoke(main, ["prepare", run, str(folder)]).exit_code == 2
    result = CliRunner().invoke(main, ["prepare", run, str(folder), "--on-error", "skip"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "skipped 2 documents: not UTF-8" in lines
    assert "skipped 1 document: document without a text" in lines
    told = [line for line in lines if line.startswith(f"  {folder}")]
    assert [line.split(": ")[:2] for line in told] == [
        [f"  {folder}/b.txt", "not UTF-8"],
        [f"  {folder}/c/d.txt", "not UTF-8"],
        [f"  {folder}/e.md", "document without a text"],
    ]
    # What another document has no more is noticed all the same.
    write(folder, {"a.md": f"# A\n\n{words(61)}", "z.md": "", "f.txt": b"\xff"})
    added = CliRunner().invoke(main, ["add", run, str(folder), "--on-error", "skip"])
    assert added.exit_code == 0, added.output
    assert f"  {folder}/f.txt: not UTF-8" in added.output
    assert f"polyprag remove {run} --ids 0,1" in added.output

"""Folders of documents as a corpus: the same on any workers, after stops and after edits."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from sharding.change.growth import append_passages
from sharding.change.removal import remove_passages
from sharding.corpus.passages import Passage
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.ingest import document_groups, parse_task
from sharding.ingest.prepare import prepare
from sharding.ingest.splits import save_split
from sharding.task_pool import ProcessPool


def words(number: int, word: str = "w") -> str:
    return " ".join(f"{word}{n}" for n in range(number))


def passages(corpus_dir: Path) -> list[Passage]:
    return [record.passage for record in Corpus.open(corpus_dir).iterate()]


def bytes_of(corpus_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(corpus_dir.iterdir())}


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def long_documents(number: int) -> dict[str, str | bytes]:
    return {
        f"{n % 3}/doc{n:03d}.md": f"# Document {n}\n\n"
        + "\n\n".join(f"## Part {part}\n\n{words(70 + n % 50, f'{n}x{part}')}" for part in range(3))
        for n in range(number)
    }


@pytest.mark.parametrize("split_bytes", [2000, 1 << 24])
def test_the_same_bytes_whatever_the_workers(tmp_path: Path, split_bytes: int) -> None:
    folder = write(tmp_path / "docs", long_documents(40))
    prepare([str(folder)], tmp_path / "one", partition_size=16, split_bytes=split_bytes)
    with ProcessPool(2) as pool:
        prepare(
            [str(folder)], tmp_path / "two", partition_size=16, pool=pool, split_bytes=split_bytes
        )
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    found = passages(tmp_path / "one")
    assert len(found) == 120 == len({each.key for each in found})
    assert [each.title for each in found[:3]] == [
        "Document 0 > Part 0",
        "Document 0 > Part 1",
        "Document 0 > Part 2",
    ]


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "docs", long_documents(12))
    prepare([str(folder)], tmp_path / "whole", partition_size=8, split_bytes=3000)
    saved = 0

    def stop_at_the_third(url: str, split: object) -> None:
        nonlocal saved
        saved += 1
        if saved == 3:
            raise KeyboardInterrupt
        save_split(url, split)  # type: ignore[arg-type]

    monkeypatch.setattr(parse_task, "save_split", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare([str(folder)], tmp_path / "two", partition_size=8, split_bytes=3000)
    parsed: list[int] = []
    parse = document_groups.parse_documents

    def noted(files: list[document_groups.ReadFile], *, num_words: int) -> object:
        parsed.append(len(files))
        return parse(files, num_words=num_words)

    monkeypatch.setattr(parse_task, "save_split", save_split)
    monkeypatch.setattr(document_groups, "parse_documents", noted)
    prepare([str(folder)], tmp_path / "two", partition_size=8, split_bytes=3000)
    assert bytes_of(tmp_path / "whole") == bytes_of(tmp_path / "two")
    whole = 12
    assert 0 < sum(parsed) < whole


def test_an_edit_makes_new_passages_and_names_the_old_ones(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", long_documents(4))
    corpus = tmp_path / "corpus"
    prepare([str(folder)], corpus, partition_size=64)
    before = passages(corpus)
    page = folder / "1" / "doc001.md"
    page.write_text(page.read_text().replace("1x1" + "5 ", "edited "))  # in its second part
    assert "edited" in page.read_text()
    (folder / "new.txt").write_text("A new file.")
    grown = append_passages(corpus, [str(folder)])
    assert (grown.num_added, grown.num_there) == (2, 11)
    (old,) = [each for each in before if each.title == "Document 1 > Part 1"]
    assert grown.outdated == [old.id]
    after = passages(corpus)
    assert after[:12] == before
    assert sorted(each.title for each in after[12:]) == ["Document 1 > Part 1", "new"]
    remove_passages(corpus, grown.outdated, count=lambda record: {"passage": 1})
    again = append_passages(corpus, [str(folder)])
    assert (again.num_added, again.num_there, again.outdated) == (0, 13, [])


def test_prepare_again_says_which_documents_changed_and_what_to_do(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", long_documents(4))
    corpus = tmp_path / "corpus"
    prepare([str(folder)], corpus, partition_size=64)
    page, gone = folder / "1" / "doc001.md", folder / "2" / "doc002.md"
    page.write_text("Edited.")
    gone.unlink()
    with pytest.raises(CorpusError) as told:
        prepare([str(folder)], corpus, partition_size=64)
    words = str(told.value)
    assert f"{page} new or changed since; {gone} no longer there" in words
    assert "doc003" not in words and "polyprag add RUN" in words


def test_a_document_of_another_name_is_another_document(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", {"a.md": "Text."})
    prepare([str(folder)], tmp_path / "corpus", partition_size=8)
    (folder / "a.md").rename(folder / "b.md")
    with pytest.raises(CorpusError, match="from other files"):
        prepare([str(folder)], tmp_path / "corpus", partition_size=8)


def test_a_copy_of_the_folder_is_the_same_corpus(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", long_documents(3))
    shutil.copytree(folder, tmp_path / "copy")
    prepare([str(folder)], tmp_path / "corpus", partition_size=8)
    prepare([str(tmp_path / "copy")], tmp_path / "corpus", partition_size=8)
    grown = append_passages(tmp_path / "corpus", [str(tmp_path / "copy")])
    assert (grown.num_added, grown.num_there) == (0, 9)


BAD: dict[str, tuple[str | bytes, str]] = {
    "latin.txt": (b"#\n\nGr\xf6\xdfe", r"latin\.txt:3: not UTF-8: byte 5 .*iconv -f"),
    "zero.txt": (b"a\0b", r"zero\.txt:1: not UTF-8: character 1 is a zero"),
    "deep.rst": ("- " * 5000, r"deep\.rst:1: document not readable: .*nested too deeply"),
    "large.rst": ("text\n\n" * 800_000, r"large\.rst:1: document too large: over 4 MiB of rst"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_document_that_cannot_be_read_stops_or_is_counted(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    folder = write(tmp_path / "docs", {"a.md": "Good.", name: content, "z.md": "Good, too."})
    with pytest.raises(CorpusError, match=message):
        prepare([str(folder)], tmp_path / "corpus", partition_size=8)
    assert not (tmp_path / "corpus" / "manifest.json").exists()
    unread: dict[str, str] = {}
    manifest = prepare(
        [str(folder)], tmp_path / "corpus", partition_size=8, on_error="skip", unread=unread
    )
    assert manifest.num_passages == 2
    assert sum(manifest.skipped.values()) == 1
    assert list(unread) == [str(folder / name)]
    assert manifest.skipped == {unread[str(folder / name)].partition(": ")[0]: 1}
    assert all(len(sha256) == 64 for sha256 in manifest.source_sha256)


def test_a_cut_archive_always_stops(tmp_path: Path) -> None:
    data = gzip.compress(os.urandom(3000).hex().encode())[:-500]
    folder = write(tmp_path / "docs", {"a.md": "Good.", "b.txt.gz": data})
    for on_error in ("stop", "skip"):
        with pytest.raises(CorpusError, match=r"b\.txt\.gz:1: truncated gzip"):
            prepare([str(folder)], tmp_path / "corpus", partition_size=8, on_error=on_error)  # type: ignore[arg-type]


def test_documents_without_a_text_and_repetitions_are_counted(tmp_path: Path) -> None:
    files = {
        "empty.md": "",
        "title.md": "# Only a title",
        "a.txt": words(100) + "\n\n" + words(100),
    }
    folder = write(tmp_path / "docs", dict(files))
    manifest = prepare([str(folder)], tmp_path / "corpus", partition_size=8)
    assert manifest.num_passages == 1
    assert manifest.skipped == {"document without a text": 2, "passage twice in a document": 1}
    assert prepare([str(folder)], tmp_path / "corpus", partition_size=8) == manifest


def test_documents_beside_tables(tmp_path: Path) -> None:
    rows = '{"id": 1, "title": "T", "text": "one two three four"}\n'
    folder = write(
        tmp_path / "docs", {"rows.jsonl": rows, "README.md": "About.", "sub/a.md": words(12)}
    )
    manifest = prepare([str(folder)], tmp_path / "corpus", partition_size=8, chunk_words=2)
    keys = [each.key for each in passages(tmp_path / "corpus")]
    assert keys[:2] == ["1#1", "1#2"]
    assert all(key.startswith("sub/a.md#") for key in keys[2:])
    assert manifest.num_passages == 2 + 6
    assert manifest.source == [str(folder / "rows.jsonl"), str(folder / "sub/a.md")]


def test_passages_of_documents_have_as_many_words_as_are_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "docs", {"a.txt": words(1000)})
    for asked, expected in ((None, 10), (50, 20), (1000, 1)):
        manifest = prepare(
            [str(folder)], tmp_path / f"{asked}", partition_size=64, chunk_words=asked
        )
        assert manifest.num_passages == expected
    with pytest.raises(CorpusError, match="at most 2,000"):
        prepare([str(folder)], tmp_path / "no", partition_size=64, chunk_words=2001)

import gzip
import json
import os
from pathlib import Path

import pytest

from sharding.errors import CorpusError
from sharding.ingest.source_file import SourceFile
from sharding.ingest.sources import expand


def touch(directory: Path, *names: str) -> None:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_bytes(b"12345")


def names(source: str | Path) -> list[str]:
    return [os.path.basename(file.url) for file in expand([str(source)])]


def test_kinds_go_by_the_names_ends(tmp_path: Path) -> None:
    touch(tmp_path / "d", "a.jsonl", "b.jsonl.gz", "c.tsv.zst", "d.parquet", "e.arrow")
    found = expand([str(tmp_path / "d")])
    assert [(file.kind, file.compression) for file in found] == [
        ("jsonl", None),
        ("jsonl", "gz"),
        ("tsv", "zst"),
        ("parquet", None),
        ("arrow", None),
    ]
    assert found[0] == SourceFile(str(tmp_path / "d" / "a.jsonl"), "jsonl", None, 5)


def test_directories_and_globs_are_files_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "d", "b.tsv", "a.tsv", "a.jsonl", "README.md", "x.parquet.gz")
    assert names(tmp_path / "d") == ["a.jsonl", "a.tsv", "b.tsv"]
    assert names(tmp_path / "d" / "*.tsv") == ["a.tsv", "b.tsv"]
    assert names(tmp_path / "d" / "[b-z]*") == ["b.tsv"]
    monkeypatch.chdir(tmp_path / "d")
    assert [file.url for file in expand(["a*", "b.tsv"])] == ["a.jsonl", "a.tsv", "b.tsv"]


def test_a_saved_dataset_is_its_data_files_in_its_order(tmp_path: Path) -> None:
    touch(tmp_path / "d", "data-2.arrow", "data-1.arrow", "cache-0.arrow", "dataset_info.json")
    entries = [{"filename": "data-2.arrow"}, {"filename": "data-1.arrow"}]
    state = tmp_path / "d" / "state.json"
    state.write_text(json.dumps({"_data_files": entries}))
    assert names(tmp_path / "d") == ["data-2.arrow", "data-1.arrow"]
    for wrong in ({}, {"_data_files": [{"filename": "../x.arrow"}]}, {"_data_files": [1]}):
        state.write_text(json.dumps(wrong))
        with pytest.raises(CorpusError, match=r"state\.json.*save the dataset again"):
            expand([str(tmp_path / "d")])


def test_names_are_read_in_any_case_and_json_and_csv_are_known(tmp_path: Path) -> None:
    touch(tmp_path / "d", "A.CSV", "b.json.gz", "c.ndjson.zst", "d.JSONL.GZ", "e.arrow.gz")
    found = expand([str(tmp_path / "d")])
    assert [(file.kind, file.compression) for file in found] == [
        ("csv", None),
        ("json", "gz"),
        ("jsonl", "zst"),
        ("jsonl", "gz"),
    ]


def test_what_holds_no_passages_is_left_out_of_a_directory_and_read_when_it_is_named(
    tmp_path: Path,
) -> None:
    touch(tmp_path / "beir", "corpus.jsonl", "queries.jsonl", "qrels.dev.tsv", "dataset_infos.json")
    touch(tmp_path / "beir", "queries_and_answers.jsonl", "Queries.tsv")
    assert names(tmp_path / "beir") == ["corpus.jsonl", "queries_and_answers.jsonl"]
    assert names(tmp_path / "beir" / "queries.jsonl") == ["queries.jsonl"]


def test_files_without_a_suffix_are_looked_into(tmp_path: Path) -> None:
    """As MS MARCO v2 comes: msmarco_passage_00.gz and so on."""
    line = b'{"pid": "1", "passage": "About."}\n'
    touch(tmp_path / "d", "LICENSE", "README.md", ".hidden", "notes.txt", "broken.gz")
    touch(tmp_path / "d" / "inside", "a.jsonl")
    (tmp_path / "d" / "msmarco_00.gz").write_bytes(gzip.compress(line))
    (tmp_path / "d" / "msmarco_01").write_bytes(line)
    (tmp_path / "d" / "lines.txt").write_bytes(line)
    (tmp_path / "d" / ".lines").write_bytes(line)
    tables = ["msmarco_00.gz", "msmarco_01"]
    assert names(tmp_path / "d" / "ms*") == tables
    assert names(tmp_path / "d") == ["a.jsonl", "lines.txt", *tables, "notes.txt"]


def test_all_datasets_that_were_saved_as_one_are_read_in_their_order(tmp_path: Path) -> None:
    for split in ("validation", "train"):
        touch(tmp_path / "d", "dataset_dict.json")
        touch(tmp_path / "d" / split, f"{split}.arrow")
        entries = [{"filename": f"{split}.arrow"}]
        state = tmp_path / "d" / split / "state.json"
        state.write_text(json.dumps({"_data_files": entries}))
    about = tmp_path / "d" / "dataset_dict.json"
    about.write_text(json.dumps({"splits": ["train", "validation"]}))
    assert names(tmp_path / "d") == ["train.arrow", "validation.arrow"]
    assert names(tmp_path / "d" / "validation") == ["validation.arrow"]
    for wrong in ({"splits": [".."]}, {"splits": []}, {"splits": ["a/b"]}, {"splits": 1}, []):
        about.write_text(json.dumps(wrong))
        with pytest.raises(CorpusError, match=r"dataset_dict\.json.*save it again"):
            expand([str(tmp_path / "d")])


def test_what_stands_for_no_file_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "none", "logo.png")
    touch(tmp_path / "several", "dataset_dict.json")
    touch(tmp_path, "a.tsv", "a.docx")
    for source, message in (
        ("none", "no corpus file in it"),
        ("none/*.tsv", "no corpus file in it"),
        (
            "several",
            r"dataset_dict\.json: not what `DatasetDict.*save it again",
        ),
        ("a.docx", "not a known kind of corpus file by its name or content"),
        ("b.tsv", "no such file"),
        ("**/b.tsv", "no such file"),
        ("*/*.tsv", "only the last part"),
    ):
        with pytest.raises(CorpusError, match=message):
            expand([str(tmp_path / source)])
    with pytest.raises(CorpusError, match=r"a\.tsv: named twice"):
        expand([str(tmp_path / "a.tsv"), str(tmp_path / "*.tsv")])

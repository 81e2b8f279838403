"""Whole .json files, sound and damaged, by way of `prepare`."""

import json
from pathlib import Path
from typing import Any

import pytest

from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.formats import json_file
from sharding.ingest.formats.json_file import Items, as_lines, item_slices
from sharding.ingest.prepare import prepare
from sharding.ingest.sources import expand
from sharding.task_pool import ProcessPool

ROWS = [{"id": str(n), "title": f"T {n}", "text": f"Text {n}, é."} for n in range(50)]


def read(path: Path, tmp_path: Path, **options: Any) -> list[str]:
    corpus_dir = str(tmp_path / "corpus")
    prepare([str(path)], corpus_dir, partition_size=7, overwrite=True, **options)
    return [record.passage.key for record in Corpus.open(corpus_dir).iterate()]


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_bytes_depend_neither_on_workers_nor_on_splits_nor_on_white_space(
    tmp_path: Path, indent: int | None
) -> None:
    found = []
    for number, (form, options) in enumerate(
        [
            (indent, {"split_bytes": 1}),
            (indent, {"split_bytes": 200}),
            (None, {"split_bytes": 1 << 20}),
        ]
    ):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(ROWS, indent=form))
        corpus = tmp_path / f"corpus-{number}"
        with ProcessPool(2) as pool:
            prepare([str(path)], corpus, partition_size=7, pool=pool, **options)
        found.append({p.name: p.read_bytes() for p in corpus.glob("part-*")})
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("split_bytes", [1, 150, 1 << 20])
def test_a_bad_item_is_told_by_its_line_and_number(tmp_path: Path, split_bytes: int) -> None:
    path = tmp_path / "a.json"
    rows: list[Any] = [dict(row) for row in ROWS]
    rows[30]["text"] = ""
    rows[40] = 7
    path.write_text("[\n\n" + ",\n".join(map(json.dumps, rows)) + "]")  # the 31st is on line 33
    with pytest.raises(CorpusError, match=r"a\.json:33: empty text: item 31; mend the file"):
        read(path, tmp_path, split_bytes=split_bytes)
    left = [str(n) for n in range(50) if n not in (30, 40)]
    assert read(path, tmp_path, split_bytes=split_bytes, on_error="skip") == left


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'[{"id": 1,\n "text": "a"},', r":2: truncated file.*copy the file again"),
        (b'[{"id": 1,\n "text": oops}]', r":2: bad JSON file: .*mend the file"),
        (b'[{"id": 1, "text": "a"}]\nx', r":2: bad JSON file: .*trailing"),
        (b"[" * 200_000, r":1: bad JSON file: it is nested too deeply"),
        (b'{"a": ' * 200_000, r":1: bad JSON file: it is nested too deeply"),
        (
            b'[{"id": 1, "x": ' + b"[" * 99_999 + b"]" * 99_999 + b"}]",
            r":1: bad JSON file: it is nested",
        ),
        (b'"text"', r":1: bad JSON file: Expected `object`"),
        ("[]".encode("utf-16"), r":1: bad JSON file"),
        (
            b'{"a": [{"text": "x"}], "b": [{"text": "y"}]}',
            r":1: unknown fields: it has several lists: a, b; .*jq -c '\.a\[\]'",
        ),
        (b"[]", ": no passages in it"),
    ],
)
def test_a_file_that_is_no_use_is_an_error_in_a_line(
    tmp_path: Path, data: bytes, message: str, on_error: Any
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"a\.json" + message) as error:
        read(path, tmp_path, on_error=on_error)
    assert "\n" not in str(error.value)


def test_a_file_has_a_largest_size_and_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS))
    monkeypatch.setattr(json_file, "MAX_JSON_BYTES", path.stat().st_size)
    assert len(read(path, tmp_path)) == 50
    monkeypatch.setattr(json_file, "MAX_JSON_BYTES", path.stat().st_size - 1)
    for on_error in ("stop", "skip"):
        with pytest.raises(CorpusError, match=r"a\.json:1: file too large.*jq -c '\.\[\]' FILE"):
            read(path, tmp_path, on_error=on_error)


def test_slices_are_of_their_size_and_lines_add_up(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, indent=1))  # an item takes five lines, from the second on
    (file,) = expand([str(path)])
    assert as_lines(file) is file
    slices = list(item_slices(file, FieldMap(), slice_bytes=300))
    assert len(slices) > 5
    lines_before = 0
    for part in slices:
        assert isinstance(part, Items)
        numbers = range(part.first, part.first + len(part.values))
        assert [lines_before + line for line in part.lines] == [5 * n - 3 for n in numbers]
        lines_before += part.num_lines
    assert lines_before == path.read_text().count("\n")


def test_a_large_file_of_json_lines_is_shared_out_among_workers(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n" + "".join(json.dumps(row) + "\n" for row in ROWS))
    (file,) = expand([str(path)])
    assert (file.kind, as_lines(file).kind) == ("json", "jsonl")
    assert read(path, tmp_path, split_bytes=100) == [row["id"] for row in ROWS]

"""Parquet files, Arrow files and saved datasets, by way of `prepare`."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.formats import arrow
from sharding.ingest.prepare import prepare
from sharding.ingest.rows import BadRow
from sharding.ingest.sources import expand


def read(source: Path, tmp_path: Path, **options: Any) -> list[tuple[str, str, str]]:
    corpus_dir = str(tmp_path / "corpus")
    prepare([str(source)], corpus_dir, partition_size=5, overwrite=True, **options)
    records = Corpus.open(corpus_dir).iterate()
    return [(r.passage.key, r.passage.title, r.passage.text) for r in records]


ROWS = [(str(i), f"T {i}", f"Text {i}, é.") for i in range(20)]


def table(**changes: Any) -> pa.Table:
    columns = dict(zip(("id", "title", "text"), map(list, zip(*ROWS, strict=True)), strict=True))
    return pa.table(columns | {"url": ["u"] * 20} | changes)


@pytest.mark.parametrize(
    "string", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize("split_bytes", [1, 1 << 20])
def test_parquet_of_any_kind_of_string(tmp_path: Path, string: Any, split_bytes: int) -> None:
    made = table(id=pa.array(range(20)), text=pa.array([row[2] for row in ROWS]).cast(string))
    pq.write_table(made, tmp_path / "x.parquet", row_group_size=7)
    assert read(tmp_path / "x.parquet", tmp_path, split_bytes=split_bytes) == ROWS


def test_arrow_streams_and_files(tmp_path: Path) -> None:
    for name, writer in (("s.arrow", pa.ipc.new_stream), ("f.arrow", pa.ipc.new_file)):
        with writer(str(tmp_path / name), table().schema) as file:
            file.write_table(table(), max_chunksize=3)
        assert read(tmp_path / name, tmp_path) == ROWS


def test_a_dataset_that_was_saved_to_disk(tmp_path: Path) -> None:
    """The files that `datasets` 3 writes, made by hand."""
    directory = tmp_path / "saved"
    directory.mkdir()
    files = []
    for number, (begin, end) in enumerate([(0, 12), (12, 20)]):
        name = f"data-{number:05d}-of-00002.arrow"
        with pa.ipc.new_stream(str(directory / name), table().schema) as file:
            file.write_table(table().slice(begin, end - begin))
        files.append({"filename": name})
    (directory / "state.json").write_text(json.dumps({"_data_files": files, "_split": "train"}))
    (directory / "dataset_info.json").write_text("{}")
    assert read(directory, tmp_path) == ROWS


def test_bad_rows_stop_by_row_or_are_counted(tmp_path: Path) -> None:
    texts: list[Any] = [row[2] for row in ROWS]
    texts[3], texts[8] = None, " "
    pq.write_table(table(text=texts), tmp_path / "x.parquet", row_group_size=2)
    with pytest.raises(CorpusError, match=r"x\.parquet:4: wrong type: text is not a string"):
        read(tmp_path / "x.parquet", tmp_path, split_bytes=1)
    kept = [row for row in ROWS if row[0] not in ("3", "8")]
    assert read(tmp_path / "x.parquet", tmp_path, on_error="skip") == kept


def test_text_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    raw = pa.array([row[2].encode() for row in ROWS[:19]] + [b"\xff"])
    bad = pa.Array.from_buffers(pa.string(), 20, raw.buffers())
    pq.write_table(table(text=bad), tmp_path / "x.parquet")
    with pytest.raises(CorpusError, match=r"x\.parquet:20: bad UTF-8"):
        read(tmp_path / "x.parquet", tmp_path)
    assert read(tmp_path / "x.parquet", tmp_path, on_error="skip") == ROWS[:19]


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_missing_column_or_a_damaged_file_is_an_error(tmp_path: Path, on_error: Any) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(table(), path)
    fields = FieldMap(text="contents")
    with pytest.raises(
        CorpusError, match=r"x\.parquet.*missing column: contents.*id, title.*--map"
    ):
        read(path, tmp_path, fields=fields, on_error=on_error)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match=r"x\.parquet:1: not readable: parquet"):
        read(path, tmp_path, on_error=on_error)
    with pa.ipc.new_stream(str(tmp_path / "x.arrow"), table().schema) as file:
        file.write_table(table(), max_chunksize=4)
    data = (tmp_path / "x.arrow").read_bytes()
    (tmp_path / "x.arrow").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorpusError, match=r"x\.arrow:\d+: not readable: arrow"):
        read(tmp_path / "x.arrow", tmp_path, on_error=on_error)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("split_bytes", [1, 1 << 20])
def test_an_arrow_stream_that_is_cut_between_two_batches_is_an_error(
    tmp_path: Path, on_error: Any, split_bytes: int
) -> None:
    path = tmp_path / "x.arrow"
    ends = []
    with path.open("wb") as opened, pa.ipc.new_stream(opened, table().schema) as file:
        for batch in table().to_batches(max_chunksize=4):
            file.write_batch(batch)
            ends.append(opened.tell())
    path.write_bytes(path.read_bytes()[: ends[2]])  # 12 of its 20 rows
    with pytest.raises(CorpusError, match=r"x\.arrow:13: not readable: .*end is missing"):
        read(path, tmp_path, on_error=on_error, split_bytes=split_bytes)


@pytest.mark.parametrize("kind", ["parquet", "parquet of dictionaries", "arrow"])
def test_a_small_file_that_stands_for_much_is_read_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """200 rows that share one value of 1 MiB: 2 KB on disk."""
    monkeypatch.setattr(arrow, "_BATCH_BYTES", 8 << 20)
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 200), pa.array(["x" * (1 << 20)]))
    rows = pa.table(
        {"id": [str(i) for i in range(200)], "title": ["t"] * 200, "text": shared},
    )
    path = tmp_path / f"x.{kind[:7].strip()}"
    if kind == "arrow":
        with pa.ipc.new_stream(str(path), rows.schema) as file:
            file.write_table(rows)
    else:
        pq.write_table(rows, path, compression="zstd", store_schema="of" in kind)
        assert path.stat().st_size < 10_000
    (file,) = expand([str(path)])
    before, num_rows = pa.total_allocated_bytes(), 0
    for part in arrow.row_slices(file, FieldMap(), row_group=None, slice_bytes=4 << 20):
        assert not isinstance(part, BadRow)
        assert pa.total_allocated_bytes() - before < 40 << 20
        assert sum(map(len, part.table.column("text").to_pylist())) <= 16 << 20
        num_rows += part.table.num_rows
    assert num_rows == 200


def test_a_value_that_is_too_long_is_a_bad_row(tmp_path: Path) -> None:
    long = "y" * (arrow.MAX_VALUE_BYTES + 1)
    pq.write_table(table(text=["z"] * 19 + [long]), tmp_path / "x.parquet")
    with pytest.raises(CorpusError, match=r"x\.parquet:20: value too long: text has more than"):
        read(tmp_path / "x.parquet", tmp_path)
    assert len(read(tmp_path / "x.parquet", tmp_path, on_error="skip")) == 19

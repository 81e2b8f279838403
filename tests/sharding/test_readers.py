import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding import readers
from sharding.errors import CorpusError
from sharding.key_set import KeySet
from sharding.readers import OnError, read_passages

Rows = list[tuple[str, str, str]]

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
texts = words.filter(lambda text: bool(text.strip()))
rows_of_any_text = st.lists(
    st.tuples(texts, words, texts), max_size=6, unique_by=lambda row: row[0]
)


def read(path: Path, on_error: OnError = "stop") -> tuple[Rows, dict[str, int]]:
    skipped: Counter[str] = Counter()
    return list(read_passages(path, on_error=on_error, skipped=skipped)), dict(skipped)


def jsonl(*objects: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in objects)


GOOD = {"id": "a", "title": "A", "text": "About A."}
OTHER = {"id": "b", "title": "B", "text": "About B."}
GOOD_ROWS = [("a", "A", "About A."), ("b", "B", "About B.")]


@given(rows_of_any_text)
def test_json_lines_of_any_text_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows
) -> None:
    path = tmp_path_factory.mktemp("read") / "x.jsonl"
    path.write_bytes(jsonl(*({"id": k, "title": t, "text": x, "url": 1} for k, t, x in rows)))
    assert read(path) == (rows, {})


@given(rows_of_any_text, st.booleans())
def test_dpr_files_written_by_csv_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, zipped: bool
) -> None:
    """Texts with tabs, quotes and line ends in them, which csv quotes."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter="\t")
    writer.writerow(["id", "text", "title"])
    writer.writerows((key, text, title) for key, title, text in rows)
    data = buffer.getvalue().encode()
    path = tmp_path_factory.mktemp("read") / ("x.tsv.gz" if zipped else "x.tsv")
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert read(path) == (rows, {})


def test_psgs_w100_as_dpr_ships_it(tmp_path: Path) -> None:
    path = tmp_path / "psgs_w100.tsv"
    path.write_text(
        "id\ttext\ttitle\n"
        '1\t"Aaron Aaron ( or ; ""Ahärôn"") is a prophet, high priest"\tAaron\n'
        "2\tGod at Sinai granted Aaron the priesthood\tAaron\n"
    )
    assert read(path)[0] == [
        ("1", "Aaron", 'Aaron Aaron ( or ; "Ahärôn") is a prophet, high priest'),
        ("2", "Aaron", "God at Sinai granted Aaron the priesthood"),
    ]


def test_whole_numbers_are_ids_and_blank_lines_and_a_byte_order_mark_are_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + jsonl(GOOD | {"id": 7}) + b"\n  \n")
    assert read(path) == ([("7", "A", "About A.")], {})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "x", \n', "bad JSON"),
        (b"[1]\n", "bad JSON"),
        (b"[" * 100_000 + b"\n", "bad JSON"),
        (b'{"id": "x", "title": "\xff", "text": "t"}\n', "bad UTF-8"),
        (b'{"id": "x", "title": "\\ud800", "text": "t"}\n', "bad UTF-8"),
        (jsonl({"id": "x", "title": "t"}), "missing field"),
        (jsonl({"title": "t", "text": "t"}), "missing field"),
        (jsonl({"id": "x", "text": "t"}), "missing field"),
        (jsonl(GOOD | {"id": None}), "wrong type"),
        (jsonl(GOOD | {"id": True}), "wrong type"),
        (jsonl(GOOD | {"id": "x", "title": ["t"]}), "wrong type"),
        (jsonl(GOOD | {"id": "x", "text": " \n"}), "empty text"),
        (jsonl(GOOD | {"id": ""}), "empty id"),
        (jsonl(GOOD), "duplicate id"),
    ],
)
def test_a_bad_json_line_stops_by_file_and_line_or_is_counted(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(jsonl(GOOD) + line + jsonl(OTHER))
    with pytest.raises(CorpusError, match=rf"x\.jsonl:2: {reason}.*--on-error skip"):
        read(path)
    assert read(path, "skip") == (GOOD_ROWS, {reason: 1})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"x\ttext\n", "wrong column count"),
        (b"x\ttext\ttitle\tmore\n", "wrong column count"),
        (b"x\tte\xffxt\ttitle\n", "bad UTF-8"),
        (b'x\t"never closed\ttitle\n', "bad CSV"),
        (b'x\t"closed" too early\ttitle\n', "bad CSV"),
        (b"x\ta lone \r return\ttitle\n", "bad CSV"),
        (b"x\t \ttitle\n", "empty text"),
        (b"a\ttext\ttitle\n", "duplicate id"),
    ],
)
def test_a_bad_row_stops_by_file_and_line_or_is_counted(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "x.tsv"
    head = b"id\ttext\ttitle\n"
    path.write_bytes(head + b"a\tAbout A.\tA\n" + line + b'b\t"About B."\tB\n')
    with pytest.raises(CorpusError, match=rf"x\.tsv:3: {reason}.*--on-error skip"):
        read(path)
    assert read(path, "skip") == (GOOD_ROWS, {reason: 1})


@pytest.mark.parametrize("data", [b"", b"id\ttitle\ttext\n", b"1\ttext\ttitle\n"])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_tsv_without_dprs_header_is_refused(
    tmp_path: Path, data: bytes, on_error: OnError
) -> None:
    (tmp_path / "x.tsv").write_bytes(data)
    with pytest.raises(CorpusError, match=r"x\.tsv:1: wrong header"):
        read(tmp_path / "x.tsv", on_error)


def many_rows() -> Rows:
    return [(f"k{i}", f"T {i}", f"{i} squared is {i * i}.") for i in range(2000)]


def test_a_truncated_gzip_gives_what_is_whole_then_stops_by_line_or_is_counted(
    tmp_path: Path,
) -> None:
    rows = many_rows()
    data = gzip.compress(jsonl(*({"id": k, "title": t, "text": x} for k, t, x in rows)))
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(data[: len(data) // 2])
    found, skipped = read(path, "skip")
    assert 0 < len(found) < len(rows)
    assert found == rows[: len(found)]
    assert skipped == {"truncated gzip": 1}
    with pytest.raises(CorpusError, match=rf"x\.jsonl\.gz:{len(found) + 1}: truncated gzip"):
        read(path)


def test_a_damaged_gzip_stops_by_file_and_line_or_is_counted(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(jsonl(GOOD, OTHER)))
    data[-5] ^= 1  # its checksum
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"x\.jsonl\.gz:\d+: damaged gzip"):
        read(path)
    assert read(path, "skip")[1] == {"damaged gzip": 1}
    path.write_bytes(jsonl(GOOD))
    with pytest.raises(CorpusError, match=r"x\.jsonl\.gz:1: damaged gzip"):
        read(path)


def test_a_line_of_any_length_is_not_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 100)
    path = tmp_path / "x.jsonl"
    path.write_bytes(jsonl(GOOD, GOOD | {"id": "x", "text": "long " * 100}, OTHER))
    assert read(path, "skip") == (GOOD_ROWS, {"line too long": 1})
    with pytest.raises(CorpusError, match=r"x\.jsonl:2: line too long"):
        read(path)


def test_an_open_quote_takes_in_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_ROW_LINES", 2)
    path = tmp_path / "x.tsv"
    path.write_bytes(b'id\ttext\ttitle\nx\t"open\tX\na\tAbout A.\tA\nb\tAbout B.\tB\nc\t"C"\tC\n')
    rows, skipped = read(path, "skip")
    assert rows == [*GOOD_ROWS, ("c", "C", "C")]
    assert skipped == {"bad CSV": 1}


def test_ids_are_unique_over_several_files(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(jsonl(GOOD))
    seen = KeySet()
    list(read_passages(path, on_error="stop", skipped=Counter(), seen=seen))
    with pytest.raises(CorpusError, match=r"x\.jsonl:1: duplicate id: 'a'"):
        list(read_passages(path, on_error="stop", skipped=Counter(), seen=seen))


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"x\.csv: not a known kind.*\.jsonl"):
        read(tmp_path / "x.csv")

import csv
import gzip
import hashlib
import io
import json
import random
import tempfile
import zlib
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from sharding.errors import CorpusError
from sharding.ingest import parse_input, parse_task
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.heads import Columns, Quoting
from sharding.ingest.fields.layout import Layout
from sharding.ingest.formats import jsonl as parse_jsonl
from sharding.ingest.formats import line_blocks
from sharding.ingest.formats import tsv as parse_tsv
from sharding.ingest.formats.line_blocks import LineBlock
from sharding.ingest.parse_task import Parsed, ParseOptions, ParseTask
from sharding.ingest.rows import OnError
from sharding.ingest.sources import expand
from sharding.ingest.splits import load_split
from sharding.shown_progress import show_nothing
from sharding.task_pool import InlinePool

Rows = list[tuple[str, str, str]]

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
texts = words.filter(lambda text: bool(text.strip()))
rows_of_any_text = st.lists(
    st.tuples(texts, words, texts), max_size=6, unique_by=lambda row: row[0]
)


def read(
    path: Path,
    on_error: OnError = "stop",
    *,
    fields: FieldMap | None = None,
    quoting: Quoting = "csv",
    split_bytes: int = 1 << 20,
) -> tuple[Rows, dict[str, int]]:
    """The passages and what was left out, by way of the split files."""
    skipped: Counter[str] = Counter()
    rows = []
    with tempfile.TemporaryDirectory() as work_dir:
        (parsed,) = parse_input.parse_input(
            expand([str(path)]),
            work_dir,
            options=ParseOptions(fields or FieldMap(), on_error=on_error, quoting=quoting),
            pool=InlinePool(),
            show=show_nothing,
            split_bytes=split_bytes,
        )
        assert parsed.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        for info in parsed.splits:
            split = load_split(info.url, key=info.key)
            assert split is not None
            skipped.update(split.skipped)
            offsets = split.body_offsets().tolist()
            for begin, end in pairwise(offsets):
                body = json.loads(split.bodies[begin:end])
                rows.append((body["key"], body["title"], body["text"]))
    return rows, dict(skipped)


def jsonl(*objects: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in objects)


GOOD = {"id": "a", "title": "A", "text": "About A."}
OTHER = {"id": "b", "title": "B", "text": "About B."}
GOOD_ROWS = [("a", "A", "About A."), ("b", "B", "About B.")]


@given(rows_of_any_text, st.sampled_from([1, 1 << 20]))
def test_json_lines_of_any_text_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, split_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("read") / "x.jsonl"
    path.write_bytes(jsonl(*({"id": k, "title": t, "text": x, "url": 1} for k, t, x in rows)))
    assert read(path, split_bytes=split_bytes) == (rows, {})


@given(rows_of_any_text, st.booleans(), st.sampled_from([1, 50, 1 << 20]))
@example([("a", "A", 'x\n1\t"2"\t3\n4\t5\t6\ny'), ("b", "B", "z"), ("c", "C", "q")], False, 1)
def test_dpr_files_written_by_csv_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, zipped: bool, split_bytes: int
) -> None:
    """Texts with tabs, quotes and line ends in them, which csv quotes; cut anywhere."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter="\t")
    writer.writerow(["id", "text", "title"])
    writer.writerows((key, text, title) for key, title, text in rows)
    data = buffer.getvalue().encode()
    path = tmp_path_factory.mktemp("read") / ("x.tsv.gz" if zipped else "x.tsv")
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert read(path, split_bytes=split_bytes) == (rows, {})


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
        (jsonl(GOOD | {"id": None}), "wrong type"),
        (jsonl(GOOD | {"id": True}), "wrong type"),
        (jsonl(GOOD | {"id": "x", "title": ["t"]}), "wrong type"),
        (jsonl(GOOD | {"id": "x", "text": " \n"}), "empty text"),
        (jsonl(GOOD | {"id": ""}), "empty id"),
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


@pytest.mark.parametrize(
    "data", [b"", b"id\tname\n", b"id\ttext\ttitle\ttext\n", b"1\ttext\ttitle\n"]
)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_tsv_whose_header_lacks_a_column_is_refused(
    tmp_path: Path, data: bytes, on_error: OnError
) -> None:
    (tmp_path / "x.tsv").write_bytes(data)
    with pytest.raises(CorpusError, match=r"x\.tsv:1: wrong header"):
        read(tmp_path / "x.tsv", on_error)


def many_rows() -> Rows:
    return [(f"k{i}", f"T {i}", f"{i} squared is {i * i}.") for i in range(2000)]


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("split_bytes", [1 << 20, 2000])
def test_a_truncated_gzip_stops_whatever_is_left_out(
    tmp_path: Path, on_error: OnError, split_bytes: int
) -> None:
    rows = many_rows()
    lines = jsonl({}, *({"id": k, "title": t, "text": x} for k, t, x in rows))  # the first is bad
    data = gzip.compress(lines)[: len(gzip.compress(lines)) // 4]
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(data)
    num_whole = zlib.decompressobj(wbits=31).decompress(data).count(b"\n")
    assert 0 < num_whole < len(rows)
    if on_error == "stop":
        with pytest.raises(CorpusError, match=r"x\.jsonl\.gz:1: missing field"):
            read(path, split_bytes=split_bytes)
        return
    # Damage is noticed up to a read of the file after the last whole line.
    with pytest.raises(CorpusError, match=r"x\.jsonl\.gz:\d+: truncated gzip.*copy") as error:
        read(path, on_error, split_bytes=split_bytes)
    assert str(error.value).startswith(f"{path}:{num_whole + 1}:")
    assert "skip" not in str(error.value)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_damaged_gzip_stops_whatever_is_left_out(tmp_path: Path, on_error: OnError) -> None:
    data = bytearray(gzip.compress(jsonl(GOOD, OTHER)))
    data[-5] ^= 1  # its checksum
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"x\.jsonl\.gz:\d+: damaged gzip"):
        read(path, on_error)
    path.write_bytes(jsonl(GOOD))
    with pytest.raises(CorpusError, match=r"x\.jsonl\.gz:1: damaged gzip"):
        read(path, on_error)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", jsonl(GOOD, OTHER)[:-20]),
        ("x.tsv", b"id\ttext\ttitle\na\tAbout A.\tA\nb\tAbo"),
        ("x.tsv", b'id\ttext\ttitle\na\tAbout A.\tA\nb\t"Abo'),
    ],
)
def test_a_file_that_ends_in_the_middle_of_a_row_stops_whatever_is_left_out(
    tmp_path: Path, on_error: OnError, name: str, data: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    number = data.count(b"\n") + 1
    with pytest.raises(CorpusError, match=rf":{number}: truncated file.*copy the file again"):
        read(path, on_error)
    path.write_bytes(data + b"\n")  # a bad row like any other
    assert read(path, "skip")[0] == GOOD_ROWS[:1]


@pytest.mark.parametrize(
    "lines",
    [
        # The stray quotes of two rows meet, in the last column and in the one before it.
        ['1\tone\t"A', "2\ttwo\tB", '3\tthree\tC"', "4\tfour\tD"],
        ['1\t"one\tA', '2\ttwo "\tB', "3\tthree\tC", "4\tfour\tD"],
        ['1\t"one\tA', "2\ttwo\tB", '3\tthree"\tC', "4\tfour\tD"],
        # They meet in different columns, so that the row has a column too few or too many.
        ['1\tone\t"A', '2\ttwo"\tB', "3\tthree\tC", "4\tfour\tD"],
        ['1\t"one\tA', "2\ttwo\tB", '3\tthree\tC"', "4\tfour\tD"],
    ],
)
@pytest.mark.parametrize("split_bytes", [1 << 20, 16])
def test_a_stray_quote_costs_its_own_row_only_and_is_said(
    tmp_path: Path, lines: list[str], split_bytes: int
) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("\n".join(["id\ttext\ttitle", *lines]) + "\n")
    with pytest.raises(CorpusError, match=r"x\.tsv:2: open quote: .*--quoting none"):
        read(path, split_bytes=split_bytes)
    found, skipped = read(path, "skip", split_bytes=split_bytes)
    assert [row[0] for row in found] == ["2", "3", "4"] and skipped == {"open quote": 1}
    expected = [(key, title, text) for key, text, title in (line.split("\t") for line in lines)]
    assert read(path, quoting="none", split_bytes=split_bytes) == (expected, {})


def test_a_quoted_table_is_a_text_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text('id\ttext\ttitle\na\t"1\t2\t3\n4\t5\t6\n7\t8\t9"\tA\n')
    assert read(path) == ([("a", "A", "1\t2\t3\n4\t5\t6\n7\t8\t9")], {})


def test_a_line_of_any_length_is_not_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_blocks, "MAX_LINE_BYTES", 100)
    path = tmp_path / "x.jsonl"
    path.write_bytes(jsonl(GOOD, GOOD | {"id": "x", "text": "long " * 100}, OTHER))
    assert read(path, "skip") == (GOOD_ROWS, {"line too long": 1})
    with pytest.raises(CorpusError, match=r"x\.jsonl:2: line too long"):
        read(path)


def test_an_open_quote_takes_in_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse_tsv, "MAX_ROW_LINES", 2)
    path = tmp_path / "x.tsv"
    path.write_bytes(b'id\ttext\ttitle\nx\t"open\tX\na\tAbout A.\tA\nb\tAbout B.\tB\nc\t"C"\tC\n')
    rows, skipped = read(path, "skip")
    assert rows == [*GOOD_ROWS, ("c", "C", "C")]
    assert skipped == {"bad CSV": 1}


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.docx").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(CorpusError, match=r"x\.docx: not a known kind.*\.jsonl"):
        read(tmp_path / "x.docx")


def test_zstd_in_several_frames_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstandard.compress(jsonl(GOOD)) + zstandard.compress(jsonl(OTHER)))
    assert read(path) == (GOOD_ROWS, {})


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(("damage", "reason"), [("cut", "truncated"), ("flip", "damaged")])
def test_bad_zstd_stops_whatever_is_left_out(
    tmp_path: Path, damage: str, reason: str, on_error: OnError
) -> None:
    rows = [(f"k{i}", f"T {i}", random.Random(i).randbytes(40).hex()) for i in range(20_000)]
    data = bytearray(
        zstandard.compress(jsonl(*({"id": k, "title": t, "text": x} for k, t, x in rows)))
    )
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=rf"x\.jsonl\.zst:\d+: {reason} zstd") as error:
        read(path, on_error)
    line = int(str(error.value).removeprefix(f"{path}:").partition(":")[0])
    assert len(rows) // 4 < line < len(rows)


def test_lines_are_counted_over_blocks(tmp_path: Path) -> None:
    rows = many_rows()
    data = jsonl(*({"id": k, "title": t, "text": x} for k, t, x in rows))
    path = tmp_path / "x.jsonl"
    path.write_bytes(data + b"{}\n" + data)
    with pytest.raises(CorpusError, match=rf"x\.jsonl:{len(rows) + 1}: missing field: id"):
        read(path, split_bytes=1000)
    table = tmp_path / "x.tsv"
    lines = [f'{k}\t"{x}\n\n"\t{t}\n' for k, t, x in rows]
    table.write_text("id\ttext\ttitle\n" + "".join(lines) + "odd\n" + "".join(lines))
    with pytest.raises(CorpusError, match=rf"x\.tsv:{3 * len(rows) + 2}: wrong column count"):
        read(table, split_bytes=1000)


def test_a_file_that_was_cut_inside_a_quoted_field_is_read_again_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of a table inside a quoted field look like rows of their own."""
    inside = "".join(f"{i}\tcell\tcell\n" for i in range(50))
    rows = [(f"k{i}", f"T {i}", inside + str(i)) for i in range(20)]
    path = tmp_path / "x.tsv"
    lines = [f'{key}\t"{text}"\t{title}\n' for key, title, text in rows]
    path.write_text("id\ttext\ttitle\n" + "".join(lines))
    as_a_whole = []

    def parse(task: ParseTask) -> Parsed:
        as_a_whole.append(task.block is None)
        return parse_task.parse(task)

    monkeypatch.setattr(parse_input, "parse", parse)
    assert read(path, split_bytes=700) == (rows, {})
    assert as_a_whole[0] is False and as_a_whole[-1] is True


def csv_of(rows: list[tuple[str, ...]], *, delimiter: str = ",") -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    return buffer.getvalue().encode()


@given(rows_of_any_text, st.sampled_from([",", ";", "|"]), st.sampled_from([1, 50, 1 << 20]))
@example([("a", "A", "Intro\nred, green, blue"), ("b", "B", "x,y\nz,,")], ",", 1)
def test_csv_files_written_by_csv_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, delimiter: str, split_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("read") / "x.csv"
    data = csv_of([("id", "title", "text"), *rows], delimiter=delimiter)
    path.write_bytes(data)
    assert read(path, split_bytes=split_bytes) == (rows, {})


def test_a_csv_cell_may_be_a_whole_article(tmp_path: Path) -> None:
    """More than the 256 lines of a tab-separated table, and than the 128 KiB of Python's csv."""
    article = "\n".join(f"Line {n}, of many, {'x' * 100}" for n in range(3000))
    path = tmp_path / "x.csv"
    path.write_bytes(csv_of([("id", "title", "text"), ("a", "A", article), ("b", "B", "short")]))
    for split_bytes in (1000, 1 << 20):
        assert read(path, split_bytes=split_bytes)[0] == [("a", "A", article), ("b", "B", "short")]


def test_what_is_recognised_holds_for_the_whole_file(tmp_path: Path) -> None:
    """A row that lacks what the others have is a bad row, wherever blocks end."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        jsonl(
            {"docid": 1, "body": "About."},
            {"docid": 2, "body": None, "text": "other"},
            {"body": "No id."},
            {"docid": 4, "body": "About.", "title": "T"},
        )
    )
    for split_bytes in (1, 1 << 20):
        rows, skipped = read(path, "skip", split_bytes=split_bytes)
        assert rows == [("1", "", "About."), ("4", "T", "About.")]
        assert skipped == {"wrong type": 1, "missing field": 1}
    with pytest.raises(CorpusError, match=r"x\.jsonl:2: wrong type: body is not a string"):
        read(path)


def test_fields_and_columns_of_other_names(tmp_path: Path) -> None:
    fields = FieldMap(id="_id", title=None, text="contents")
    path = tmp_path / "x.jsonl"
    path.write_bytes(jsonl({"_id": 3, "contents": "About.", "title": 5, "id": None}))
    assert read(path, fields=fields) == ([("3", "", "About.")], {})
    path.write_bytes(jsonl({"id": 3, "contents": "About."}))
    with pytest.raises(CorpusError, match=r"x\.jsonl:1: unknown fields: _id is not there"):
        read(path, fields=fields)
    table = tmp_path / "x.tsv"
    table.write_text("url\tcontents\t_id\nhttp://x\tAbout.\t3\n")
    assert read(table, fields=fields) == ([("3", "", "About.")], {})


BITS = [b"a", b"1", b'"', b'""', b"\t", b",", b"\n", b"\r\n", b"\r", b" ", "é".encode(), b"\xff"]


@given(
    st.lists(st.sampled_from(BITS), max_size=40),
    st.booleans(),
    st.sampled_from(["\t", ","]),
    st.sampled_from([Layout(title=None), Layout(None, "id"), Layout(None, None, is_titled=True)]),
)
def test_tsv_means_the_same_on_the_fast_road(
    bits: list[bytes], is_last: bool, delimiter: str, layout: Layout
) -> None:
    columns = Columns(("url" if layout.is_titled else "id", "text"), delimiter)
    block = LineBlock(b"".join(bits), layout, columns, 1, is_last)
    fast = parse_tsv._fast(block, columns, layout)
    careful = parse_tsv._careful(block, columns, layout)
    if fast is not None:
        assert not careful.skipped and careful.open_at is None
        assert fast == replace(careful, num_lines=fast.num_lines)  # of a last line without an end


values = st.recursive(
    st.sampled_from(
        ["x", "", " ", "x\ny", "\n", "\ud800", 1, -0, 1.0, True, None, 10**30, float("nan")]
    ),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(
    st.lists(
        st.one_of(
            st.dictionaries(st.sampled_from(["id", "title", "text", "url"]), values).map(
                lambda fields: json.dumps(fields).encode()
            ),
            st.sampled_from(
                [b"", b" ", b"{}", b"[1]", b'{"id":01}', b'{"id": "\xff"}', b'{"id": 1}{"id": 2}']
            ),
        ),
        max_size=4,
    ),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from(
        [Layout(), Layout(title=None), Layout(None), Layout("id", None, is_titled=True)]
    ),
)
def test_json_means_the_same_on_the_fast_road(
    lines: list[bytes], end: bytes, layout: Layout
) -> None:
    good = json.dumps({"id": "a", "title": "t", "text": "x"}).encode()
    block = LineBlock(end.join([good, *lines, good]), is_last=True)
    fast = parse_jsonl._fast(block, layout)
    careful = parse_jsonl._careful(block, layout)
    if fast is not None:
        assert not careful.skipped
        assert (fast.keys, fast.titles, fast.texts) == (careful.keys, careful.titles, careful.texts)
        assert (fast.lines, fast.has_made_ids) == (careful.lines, careful.has_made_ids)

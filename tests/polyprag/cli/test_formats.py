"""`polyprag prepare` without a flag on a sample of each format, in the shape its project documents.

What must come out is written down by hand.
"""

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner, Result

from polyprag.cli import main
from sharding.corpus.reader import Corpus

Rows = list[tuple[str, str, str]]


def made(title: str, text: str) -> str:
    """The id of a passage without one, as docs/data.md says."""
    return blake2b(title.encode() + b"\xff" + text.encode(), digest_size=12).hexdigest()


def without_ids(*rows: tuple[str, str]) -> Rows:
    return [(made(title, text), title, text) for title, text in rows]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def lines(*rows: Any) -> bytes:
    return b"".join(as_json(row) + b"\n" for row in rows)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def arrow(rows: list[dict[str, Any]], *, stream: bool = True) -> bytes:
    file = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def tar(**members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


PLAIN = [
    {"id": "a", "title": "Aaron", "text": "Aaron was a prophet."},
    {"id": "b", "title": None, "text": "Bees make honey."},
]
PLAIN_ROWS = [("a", "Aaron", "Aaron was a prophet."), ("b", "", "Bees make honey.")]

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Normans",
            "paragraphs": [
                {
                    "context": "The Normans were a people.",
                    "qas": [
                        {
                            "id": "56ddde6b",
                            "question": "Who?",
                            "answers": [{"text": "Normans", "answer_start": 4}],
                            "is_impossible": False,
                        },
                        {
                            "id": "5ad39d53",
                            "question": "Who not?",
                            "answers": [],
                            "plausible_answers": [{"text": "x", "answer_start": 0}],
                            "is_impossible": True,
                        },
                    ],
                },
                {"context": "They gave their name to Normandy.", "qas": []},
            ],
        },
        {"title": "Oxygen", "paragraphs": [{"context": "Oxygen is element 8.", "qas": []}]},
    ],
}
SQUAD_ROWS = without_ids(
    ("Normans", "The Normans were a people."),
    ("Normans", "They gave their name to Normandy."),
    ("Oxygen", "Oxygen is element 8."),
)

HOTPOT = [
    {
        "_id": "5a8b57f25542995d1e6f1371",
        "answer": "yes",
        "question": "Were Scott Derrickson and Ed Wood of the same nationality?",
        "supporting_facts": [["Scott Derrickson", 0], ["Ed Wood", 0]],
        "context": [
            ["Ed Wood (film)", ["Ed Wood is a film.", " Tim Burton directed it."]],
            ["Scott Derrickson", ["Scott Derrickson is a director."]],
        ],
        "type": "comparison",
        "level": "hard",
    },
    {
        "_id": "5a8c7595554299585d9e36b6",
        "answer": "x",
        "question": "Who directed Ed Wood?",
        "supporting_facts": [["Ed Wood (film)", 1]],
        "context": [
            ["Ed Wood (film)", ["Ed Wood is a film.", " Tim Burton directed it."]],
            ["Shirley Temple", ["Shirley Temple was an actress."]],
        ],
        "type": "bridge",
        "level": "hard",
    },
]
HOTPOT_ROWS = without_ids(
    ("Ed Wood (film)", "Ed Wood is a film. Tim Burton directed it."),
    ("Scott Derrickson", "Scott Derrickson is a director."),
    ("Shirley Temple", "Shirley Temple was an actress."),
)
# As Hugging Face datasets have it: a struct of lists.
HOTPOT_HF = [
    {
        "id": row["_id"],
        "question": row["question"],
        "answer": row["answer"],
        "context": {
            "title": [title for title, _ in row["context"]],
            "sentences": [sentences for _, sentences in row["context"]],
        },
    }
    for row in HOTPOT
]
# 2WikiMultihopQA's sentences have no space before them, and its Parquet files hold JSON in strings.
WIKI2 = [
    {
        "_id": "8813f87c0bdd11eba7f7acde48001122",
        "type": "comparison",
        "question": "Who is older?",
        "context": [
            ["Stuart Rosenberg", ["Stuart Rosenberg was a director.", "He was American."]],
            ["Méry", ["Méry was a poet."]],
        ],
        "supporting_facts": [["Méry", 0]],
        "evidences": [["Méry", "occupation", "poet"]],
        "answer": "Méry",
    }
]
WIKI2_ROWS = without_ids(
    ("Stuart Rosenberg", "Stuart Rosenberg was a director. He was American."),
    ("Méry", "Méry was a poet."),
)
WIKI2_HF = [
    {
        "id": row["_id"],
        "question": row["question"],
        "context": {
            "title": [title for title, _ in row["context"]],
            "content": [sentences for _, sentences in row["context"]],
        },
    }
    for row in WIKI2
]
WIKI2_STRINGS = [
    {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}
    for row in WIKI2
]
SQUAD_HF = [
    {
        "id": f"q{number}",
        "title": "Normans",
        "context": context,
        "question": f"Question {number}?",
        "answers": {"text": ["x"], "answer_start": [0]},
    }
    for number, context in enumerate(["The Normans were a people."] * 2 + ["They had a duke."])
]

SAMPLES: dict[str, tuple[str, bytes, Rows]] = {
    "csv": (
        "a.csv",
        b'ID,Title,Text\r\n1,Aaron,"Aaron, a ""prophet"",\r\nof old."\r\n2,,"Red, green, blue"\r\n',
        [("1", "Aaron", 'Aaron, a "prophet",\r\nof old.'), ("2", "", "Red, green, blue")],
    ),
    "csv with semicolons and a byte order mark": (
        "a.csv",
        "\ufeffname;description\nKettle;Boils water, quickly.\n".encode(),
        without_ids(("Kettle", "Boils water, quickly.")),
    ),
    "psgs_w100": (
        "psgs_w100.tsv",
        b'id\ttext\ttitle\n1\t"Aaron Aaron ( or ; ""Ahron"") is a prophet"\tAaron\n',
        [("1", "Aaron", 'Aaron Aaron ( or ; "Ahron") is a prophet')],
    ),
    "MS MARCO collection.tsv": (
        "collection.tsv",
        b'0\tThe presence of communication.\n1\t"Quoted" to begin with.\n2\t"Open, and so on.\n',
        [
            ("0", "", "The presence of communication."),
            ("1", "", '"Quoted" to begin with.'),
            ("2", "", '"Open, and so on.'),
        ],
    ),
    "MS MARCO msmarco-docs.tsv": (
        "msmarco-docs.tsv",
        b"D1555982\thttps://answers.yahoo.com/q\tThe hot glowing surfaces\tScience & Mathematics\n",
        [("D1555982", "The hot glowing surfaces", "Science & Mathematics")],
    ),
    "json: an array": ("a.json", json.dumps(PLAIN, indent=1).encode(), PLAIN_ROWS),
    "json: an object with one list": (
        "a.json",
        as_json({"version": 1, "description": "Two passages.", "passages": PLAIN, "tags": ["x"]}),
        PLAIN_ROWS,
    ),
    "json: one passage (Pyserini's JsonCollection)": (
        "doc1.json",
        as_json({"id": "doc1", "contents": "this is the contents."}),
        [("doc1", "", "this is the contents.")],
    ),
    "json that is JSON lines": ("a.json", lines(*PLAIN), PLAIN_ROWS),
    "jsonl": ("a.jsonl", lines(*PLAIN), PLAIN_ROWS),
    "ndjson": ("a.ndjson", lines(*PLAIN), PLAIN_ROWS),
    "jsonl without ids": (
        "a.jsonl",
        lines({"title": "A", "text": "Same."}, {"title": "A", "text": "Same."}, {"text": "Other."}),
        without_ids(("A", "Same."), ("", "Other.")),
    ),
    "parquet": ("a.parquet", parquet(PLAIN), PLAIN_ROWS),
    "arrow stream": ("a.arrow", arrow(PLAIN), PLAIN_ROWS),
    "arrow file": ("a.arrow", arrow(PLAIN, stream=False), PLAIN_ROWS),
    "BEIR": (
        "corpus.jsonl",
        lines(
            {"_id": "4983", "title": "Microstructure", "text": "Alterations.", "metadata": {}},
            {"_id": "5836", "title": "", "text": "Induction.", "metadata": {"url": "u"}},
        ),
        [("4983", "Microstructure", "Alterations."), ("5836", "", "Induction.")],
    ),
    "FlashRAG": (
        "wiki18_100w.jsonl",
        lines(
            {"id": "0", "contents": '"Aaron"\nAaron ( or ; "Ahärôn") is a prophet.\nHe lived.'},
            {"id": "1", "contents": '"Dr. No."\nDr. No is a film.'},
        ),
        [
            ("0", "Aaron", 'Aaron ( or ; "Ahärôn") is a prophet.\nHe lived.'),
            ("1", "Dr. No.", "Dr. No is a film."),
        ],
    ),
    "Pyserini with titles": (
        "corpus.jsonl",
        lines({"id": "d1", "contents": "Bees\nBees make honey.", "url": "u"}),
        [("d1", "Bees", "Bees make honey.")],
    ),
    "Pyserini without titles": (
        "corpus.jsonl",
        lines(
            {"id": "d1", "contents": "Bees make honey.\nThey live in hives."},
            {"id": "d2", "contents": "Wasps don't."},
        ),
        [("d1", "", "Bees make honey.\nThey live in hives."), ("d2", "", "Wasps don't.")],
    ),
    "KILT": (
        "kilt_knowledgesource.json",
        lines(
            {
                "_id": "290",
                "wikipedia_id": "290",
                "wikipedia_title": "A",
                "text": [
                    "A\n",
                    "A is the first letter.\n",
                    "Section::::History.\n",
                    "BULLET::::- In Greek it is alpha.\n",
                ],
                "anchors": [{"paragraph_id": 1, "text": "letter", "href": "Letter"}],
                "categories": "Letters",
            },
            {
                "_id": "303",
                "wikipedia_id": "303",
                "wikipedia_title": "B",
                "text": ["B\n", "Bee.\n"],
            },
        ),
        [
            ("290", "A", "A is the first letter.\nHistory.\nIn Greek it is alpha."),
            ("303", "B", "Bee."),
        ],
    ),
    "MS MARCO v2 passages": (
        "msmarco_passage_00.gz",
        gzip.compress(
            lines(
                {
                    "pid": "msmarco_passage_00_0",
                    "passage": "0-60 times.",
                    "spans": "(0,11)",
                    "docid": "msmarco_doc_00_0",
                }
            )
        ),
        [("msmarco_passage_00_0", "", "0-60 times.")],
    ),
    "MS MARCO v2 documents": (
        "msmarco_doc_00",
        lines(
            {
                "url": "http://x.com/",
                "title": "0-60",
                "headings": "0-60\n",
                "body": "Times.",
                "docid": "msmarco_doc_00_0",
            }
        ),
        [("msmarco_doc_00_0", "0-60", "Times.")],
    ),
    "SQuAD v2": ("dev-v2.0.json", as_json(SQUAD), SQUAD_ROWS),
    "SQuAD, one article": (
        "article.json",
        as_json(SQUAD["data"][0]),  # type: ignore[index]
        SQUAD_ROWS[:2],
    ),
    "SQuAD of Hugging Face": (
        "a.parquet",
        parquet(SQUAD_HF),
        without_ids(("Normans", "The Normans were a people."), ("Normans", "They had a duke.")),
    ),
    "HotpotQA": ("hotpot_dev_distractor_v1.json", as_json(HOTPOT), HOTPOT_ROWS),
    "HotpotQA of Hugging Face": ("a.parquet", parquet(HOTPOT_HF), HOTPOT_ROWS),
    "HotpotQA of Hugging Face, as Arrow": ("a.arrow", arrow(HOTPOT_HF), HOTPOT_ROWS),
    "HotpotQA as lines": ("a.jsonl", lines(*HOTPOT), HOTPOT_ROWS),
    "2WikiMultihopQA": ("dev.json", json.dumps(WIKI2, ensure_ascii=False).encode(), WIKI2_ROWS),
    "2WikiMultihopQA of Hugging Face": ("a.parquet", parquet(WIKI2_HF), WIKI2_ROWS),
    "2WikiMultihopQA with JSON in strings": ("a.parquet", parquet(WIKI2_STRINGS), WIKI2_ROWS),
    "WebDataset": (
        "shard-000.tar",
        tar(a__json=as_json({"title": "Aaron", "text": "A prophet."}), b__txt=b"Bees."),
        [("a", "Aaron", "A prophet."), ("b", "", "Bees.")],
    ),
}
COMPRESSED = ("csv", "psgs_w100", "json: an array", "jsonl", "ndjson", "SQuAD v2", "WebDataset")


def prepare(run: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["prepare", str(run), *map(str, arguments)])


def passages(run: Path) -> Rows:
    records = Corpus.open(str(run / "corpus")).iterate()
    return [(r.passage.key, r.passage.title, r.passage.text) for r in records]


@pytest.mark.parametrize("name", SAMPLES)
def test_each_format_is_read_without_a_flag(tmp_path: Path, name: str) -> None:
    file, data, expected = SAMPLES[name]
    (tmp_path / file).write_bytes(data)
    result = prepare(tmp_path / "run", tmp_path / file)
    assert result.exit_code == 0, result.output
    assert passages(tmp_path / "run") == expected


@pytest.mark.parametrize("name", [name for name in SAMPLES if "parquet" not in SAMPLES[name][0]])
@pytest.mark.parametrize("split_bytes", [1, 60])
def test_what_comes_out_does_not_depend_on_how_a_file_is_cut(
    tmp_path: Path, name: str, split_bytes: int
) -> None:
    from sharding.ingest.prepare import prepare as prepare_files

    file, data, expected = SAMPLES[name]
    (tmp_path / file).write_bytes(data)
    prepare_files(
        [str(tmp_path / file)],
        tmp_path / "run" / "corpus",
        partition_size=2,
        split_bytes=split_bytes,
    )
    assert passages(tmp_path / "run") == expected


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstandard.compress)]
)
def test_text_and_tar_are_read_compressed(
    tmp_path: Path, name: str, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    file, data, expected = SAMPLES[name]
    (tmp_path / f"{file}{suffix}").write_bytes(compress(data))
    result = prepare(tmp_path / "run", tmp_path / f"{file}{suffix}")
    assert result.exit_code == 0, result.output
    assert passages(tmp_path / "run") == expected


@pytest.mark.parametrize("name", ["jsonl", "json: an array", "csv", "psgs_w100", "parquet",
                                  "arrow stream", "arrow file", "WebDataset", "SQuAD v2",
                                  "MS MARCO collection.tsv"])  # fmt: skip
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_content_says_what_a_name_does_not(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    _, data, expected = SAMPLES[name]
    if compress is not bytes and name.startswith(("parquet", "arrow")):
        return  # these are compressed inside
    (tmp_path / "blob").write_bytes(compress(data))
    result = prepare(tmp_path / "run", tmp_path / "blob")
    assert result.exit_code == 0, result.output
    assert passages(tmp_path / "run") == expected


def test_a_saved_dataset_of_several_splits_is_read_whole(tmp_path: Path) -> None:
    """The files that `DatasetDict.save_to_disk` writes, made by hand."""
    directory = tmp_path / "saved"
    for split, row in zip(("train", "test"), PLAIN, strict=True):
        (directory / split).mkdir(parents=True)
        (directory / split / "data-00000-of-00001.arrow").write_bytes(arrow([row]))
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (directory / split / "state.json").write_text(json.dumps(state))
        (directory / split / "dataset_info.json").write_text("{}")
    (directory / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    result = prepare(tmp_path / "run", directory)
    assert result.exit_code == 0, result.output
    assert passages(tmp_path / "run") == PLAIN_ROWS


def test_made_ids_stay_when_other_rows_change_and_doubles_are_counted(tmp_path: Path) -> None:
    assert made("Aaron", "A prophet.") == "1d89dda0f43f31eebfdbe637"  # from b2sum
    source = tmp_path / "a.csv"
    source.write_text("title,text\nAaron,A prophet.\nBees,Bees make honey.\nAaron,A prophet.\n")
    result = prepare(tmp_path / "one", source)
    assert "skipped 1 passage: duplicate text" in result.output, result.output
    source.write_text("title,text\nBees,Bees make much honey.\nAaron,A prophet.\n")
    prepare(tmp_path / "two", source)
    assert passages(tmp_path / "one")[0] == passages(tmp_path / "two")[1]
    assert passages(tmp_path / "one")[0][0] == made("Aaron", "A prophet.")
    cut = prepare(tmp_path / "cut", tmp_path / "a.csv", "--chunk-words", "2")
    assert cut.exit_code == 0, cut.output
    key = made("Bees", "Bees make much honey.")
    assert [row[0] for row in passages(tmp_path / "cut")] == [
        f"{key}#1",
        f"{key}#2",
        made("Aaron", "A prophet."),
    ]


@pytest.mark.parametrize(
    ("file", "data", "message", "remedy"),
    [
        (
            "a.jsonl",
            b"\n" + lines({"url": "u", "story": "A long story.", "kicker": "Short"}),
            "a.jsonl:2: unknown fields: no field is known as the text; "
            "the fields are url, story, kicker",
            "text=story",
        ),
        (
            "a.csv",
            b"url,title,story\nu,T,A long story.\n",
            "a.csv:1: wrong header: no field is known as the text; "
            "the fields are url, title, story",
            "text=story",
        ),
        (
            "a.json",
            json.dumps([{"title": "A long headline", "n": 1}], indent=0).encode(),
            "a.json:2: unknown fields: no field is known as the text; the fields are title, n",
            "text=title,title=",
        ),
        (
            "a.parquet",
            parquet([{"url": "u", "story": "A long story.", "n": 1}]),
            "a.parquet:1: missing column: no field is known as the text; "
            "the fields are url, story, n",
            "text=story",
        ),
    ],
)
def test_an_error_names_the_fields_and_a_map_that_works(
    tmp_path: Path, file: str, data: bytes, message: str, remedy: str
) -> None:
    (tmp_path / file).write_bytes(data)
    for options in ([], ["--on-error", "skip"]):
        result = prepare(tmp_path / "run", tmp_path / file, *options)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1] == (
            f"error: {tmp_path}/{message}; say --map {remedy}"
        )
    result = prepare(tmp_path / "run", tmp_path / file, "--map", remedy)
    assert result.exit_code == 0, result.output
    assert passages(tmp_path / "run")[0][2].startswith("A long")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1,Bees make honey\n", r"the first line has no names of columns; .*'id,title,text'"),
        (b"", r"the first line has no names of columns"),
        ("id,Übersicht,text\n".encode("cp1252"), "it is not UTF-8 .*iconv -f WINDOWS-1252"),
        ("id,text\n1,x\n".encode("utf-16"), "it is not UTF-8 .*iconv -f"),
        (b"text,title,text\na,b,c\n", "the column text is there more than once"),
    ],
)
def test_a_table_whose_first_line_is_no_use_says_why(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    result = prepare(tmp_path / "run", tmp_path / "a.csv")
    assert result.exit_code == 2
    assert re.search(rf"a\.csv:1: wrong header: {message}", result.stderr.splitlines()[-1])


def test_a_map_that_names_what_is_not_there_says_what_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"id": 1, "head": "H", "contents": "C."}))
    wrong = prepare(tmp_path / "run", tmp_path / "a.jsonl", "--map", "title=head,text=body")
    assert wrong.exit_code == 2
    assert "a.jsonl:1: unknown fields: body is not there; the fields are id, head, contents; " in (
        wrong.stderr
    )
    assert wrong.stderr.rstrip().endswith("say --map title=head")
    right = prepare(tmp_path / "run", tmp_path / "a.jsonl", "--map", "title=head")
    assert right.exit_code == 0, right.output
    assert passages(tmp_path / "run") == [("1", "H", "C.")]


def test_add_reads_the_same_formats_and_knows_made_ids_again(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(as_json(HOTPOT[:1]))
    run = tmp_path / "run"
    assert prepare(run, tmp_path / "a.json").exit_code == 0
    (tmp_path / "all.jsonl").write_bytes(lines(*HOTPOT, *HOTPOT))
    result = CliRunner().invoke(main, ["add", str(run), str(tmp_path / "all.jsonl")])
    assert result.exit_code == 0, result.output
    assert "1 passage added (ids from 2 on), 2 were there already; 3 in all" in result.output
    assert passages(run) == HOTPOT_ROWS

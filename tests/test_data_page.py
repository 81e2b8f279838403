"""docs/data.md: the code that it shows works on what prepare writes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sharding.ingest.prepare import prepare

PAGE = Path(__file__).parent.parent / "docs" / "data.md"


def snippet(containing: str) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.M | re.S)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("page")
    source = directory / "source.jsonl"
    rows = ({"id": f"k{n}", "title": f"T{n}", "text": "é" * (n * 37 % 1200 + 1)} for n in range(50))
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare([str(source)], directory / "corpus", partition_size=16)
    return directory / "corpus"


def test_the_reader_shown_needs_only_the_standard_library_and_reads_every_passage(
    corpus_dir: Path,
) -> None:
    namespace: dict[str, Any] = {}
    exec(snippet("def read_passage"), namespace)
    for number in range(50):
        assert namespace["read_passage"](corpus_dir, number) == {
            "id": number,
            "key": f"k{number}",
            "title": f"T{number}",
            "text": "é" * (number * 37 % 1200 + 1),
            "augmentation": None,
        }


def test_the_header_is_laid_out_as_the_table_says(corpus_dir: Path) -> None:
    shard = next(corpus_dir.glob("part-00001-*.tar")).read_bytes()
    size = int(shard[124:135], 8)
    json.loads(shard[512 : 512 + size])
    expected = bytearray(512)

    def put(at: int, text: str) -> None:
        expected[at : at + len(text)] = text.encode()

    put(0, "000000000016.json")
    put(100, "0000444\0" + "0000000\0" * 2 + f"{size:011o}\0" + "0" * 11 + "\0" + " " * 8 + "0")
    put(257, "ustar\00000")
    put(265, "polyprag")
    put(297, "polyprag")
    put(148, f"{sum(expected):06o}\0 ")
    assert bytes(expected) == shard[:512]


def test_the_stream_shown_gives_every_passage(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Passages:
        def count(self, record: Any) -> int:
            return 1

        def make(self, wanted: Any) -> list[int]:
            return [record.passage.id for record, _ in wanted]

    code = snippet("with WorkerStream").replace("runs/wiki/corpus", str(corpus_dir))
    seen: list[int] = []
    for rank in (0, 1):
        namespace: dict[str, Any] = {"expand": Passages(), "seen": seen}
        taking = "seen += [item for lane in step.lanes for item in lane.items]"
        exec(code.replace("rank=0", f"rank={rank}").replace("...  ", taking, 1), namespace)
    assert sorted(seen) == list(range(50))

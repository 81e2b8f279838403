"""Growing a corpus, and shrinking it: against a plain list, and killed at every file operation."""

import json
import os
from collections.abc import Callable, Sequence
from itertools import count as counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sharding.change import keys as corpus_keys
from sharding.change.growth import append_passages
from sharding.change.keys import ids_of_keys
from sharding.change.removal import remove_passages
from sharding.checks.verify import verify_corpus
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import Passage, Record, removed_key
from sharding.corpus.reader import Corpus
from sharding.errors import CorpusError
from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.prepare import prepare
from sharding.storage.files import list_names
from sharding.task_pool import ProcessPool

Row = tuple[str, str, str]  # key, title, text
KilledAfter = Callable[[int, Callable[[], object]], bool]


def row(number: int, variant: int = 0) -> Row:
    return (f"k{number}", f"T{number}", f"Text {number}, variant {variant}.")


def write(path: Path, rows: Sequence[Row], **names: str) -> str:
    fields = [names.get(name, name) for name in ("id", "title", "text")]
    lines = [json.dumps(dict(zip(fields, each, strict=True))) for each in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def count(record: Record) -> dict[str, int]:
    return {"passage": 0 if record.passage.is_removed else 1}


def passages(corpus_dir: Path) -> list[Passage]:
    return [record.passage for record in Corpus.open(corpus_dir).iterate()]


def rows_of(corpus_dir: Path) -> list[Row]:
    return [(each.key, each.title, each.text) for each in passages(corpus_dir)]


def problems(corpus_dir: Path) -> list[str]:
    return [problem.message for problem in verify_corpus(str(corpus_dir)).problems]


def files_of(manifest: CorpusManifest) -> set[str]:
    names = [partition.file for partition in manifest.partitions]
    return {"manifest.json", *names, *(name.replace(".tar", ".idx") for name in names)}


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    """Ten passages, k0 to k9, in partitions of four."""
    source = write(tmp_path / "a.jsonl", [row(i) for i in range(10)])
    prepare([source], tmp_path / "c", partition_size=4)
    return tmp_path / "c"


def test_new_files_become_new_partitions_and_nothing_is_rewritten(
    corpus_dir: Path, tmp_path: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in corpus_dir.glob("part-*")}
    source = write(tmp_path / "b.jsonl", [row(i) for i in range(10, 16)])
    grown = append_passages(corpus_dir, [source])
    assert (grown.first_id, grown.num_added, grown.num_there) == (10, 6, 0)
    assert grown.manifest == CorpusManifest.load(corpus_dir)
    extents = [(part.index, part.first_id, part.num_passages) for part in grown.manifest.partitions]
    assert extents == [(0, 0, 4), (1, 4, 4), (2, 8, 2), (3, 10, 4), (4, 14, 2)]
    assert rows_of(corpus_dir) == [row(i) for i in range(16)]
    assert grown.manifest.source == [str(tmp_path / "a.jsonl"), source]
    assert len(grown.manifest.source_sha256) == 2
    after = {path.name: path.stat().st_mtime_ns for path in corpus_dir.glob("part-*")}
    assert before.items() <= after.items()
    assert set(list_names(corpus_dir)) == files_of(grown.manifest)
    assert problems(corpus_dir) == []


def test_what_is_there_is_left_out_and_counted(corpus_dir: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "b.jsonl", [row(i) for i in (3, 12, 9, 11)])
    grown = append_passages(corpus_dir, [source])
    assert (grown.num_added, grown.num_there) == (2, 2)
    assert rows_of(corpus_dir)[10:] == [row(12), row(11)]
    manifest = (corpus_dir / "manifest.json").read_bytes()
    again = append_passages(corpus_dir, [source])
    assert (again.num_added, again.num_there) == (0, 4)
    assert (corpus_dir / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    ("rows", "named", "num_added"),
    [
        (
            [row(11), row(5, 1)],
            r"b\.jsonl:2: id 'k5' is in .* text \(passage 5\); .*RUN --ids 5`.*--on-error skip",
            1,
        ),
        ([row(11), row(12), row(11)], r"b\.jsonl:3: duplicate id: 'k11'", 2),
        ([row(11), row(11, 1)], r"b\.jsonl:2: duplicate id: 'k11'", 1),
        ([row(11), ("k12", "", "")], r"b\.jsonl:2: empty text", 1),
    ],
)
def test_contradictions_name_file_line_and_key_and_change_nothing(
    corpus_dir: Path, tmp_path: Path, rows: list[Row], named: str, num_added: int
) -> None:
    before = (corpus_dir / "manifest.json").read_bytes()
    source = write(tmp_path / "b.jsonl", rows)
    with pytest.raises(CorpusError, match=named):
        append_passages(corpus_dir, [source], split_bytes=40)
    assert (corpus_dir / "manifest.json").read_bytes() == before
    grown = append_passages(corpus_dir, [source], on_error="skip")
    assert sum(grown.skipped.values()) == 1
    assert grown.manifest.skipped == grown.skipped
    assert rows_of(corpus_dir)[10:] == rows[:num_added]


def test_options_are_those_of_the_corpus_unless_given(tmp_path: Path) -> None:
    names = {"id": "_id", "text": "contents"}
    words = " ".join(map(str, range(6)))
    first = write(tmp_path / "a.jsonl", [("a", "A", words), ("b", "B", "one")], **names)
    directory = tmp_path / "c"
    prepare(
        [first],
        directory,
        partition_size=4,
        fields=FieldMap("_id", "title", "contents"),
        chunk_words=3,
        drop_duplicates=True,
    )
    second = write(
        tmp_path / "b.jsonl", [("c", "C", words), ("d", "B", "one"), ("e", "C", "0 1 2")], **names
    )
    grown = append_passages(directory, [second])
    assert [each[0] for each in rows_of(directory)] == ["a#1", "a#2", "b", "c#1", "c#2"]
    assert grown.skipped == {"duplicate text": 2}
    assert append_passages(directory, [second]).num_there == 2
    third = write(tmp_path / "c.jsonl", [("f", "C", words), ("g", "B", "one")])
    append_passages(directory, [third], fields=FieldMap(), chunk_words=0, drop_duplicates=False)
    assert rows_of(directory)[5:] == [("f", "C", words), ("g", "B", "one")]
    assert problems(directory) == []


def test_a_text_that_is_cut_otherwise_than_before_is_another_one(tmp_path: Path) -> None:
    long, short = " ".join(map(str, range(9))), "one two"
    rows = [("long", "", long), ("short", "", short)]
    directory = tmp_path / "c"
    prepare([write(tmp_path / "a.jsonl", rows)], directory, partition_size=4, chunk_words=3)
    for now, there in ((("long", "", short), 0), (("short", "", long), 3)):
        source = write(tmp_path / "b.jsonl", [("new", "", long), now])
        named = rf"b\.jsonl:2: id .* cut otherwise.*passage {there}.*rest of its"
        with pytest.raises(CorpusError, match=named):
            append_passages(directory, [source])
    remove_passages(directory, [0, 1, 2], count=count)
    source = write(tmp_path / "b.jsonl", [("new", "", long), ("long", "", short)])
    assert append_passages(directory, [source]).num_added == 4
    assert append_passages(directory, [source]).num_there == 4


def test_prepare_says_that_its_corpus_has_grown(corpus_dir: Path, tmp_path: Path) -> None:
    append_passages(corpus_dir, [write(tmp_path / "b.jsonl", [row(11)])])
    before = {name: (corpus_dir / name).read_bytes() for name in list_names(corpus_dir)}
    with pytest.raises(CorpusError, match=r"grown since by `polyprag add` \(of .*b\.jsonl\).*kept"):
        prepare([str(tmp_path / "a.jsonl")], corpus_dir, partition_size=4)
    assert {name: (corpus_dir / name).read_bytes() for name in list_names(corpus_dir)} == before


def test_several_processes_write_what_one_writes(corpus_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    prepare([str(tmp_path / "a.jsonl")], other, partition_size=4)
    source = write(tmp_path / "b.jsonl", [row(i) for i in range(8, 40)])
    alone = append_passages(other, [source], split_bytes=200)
    with ProcessPool(2) as pool:
        grown = append_passages(corpus_dir, [source], pool=pool, split_bytes=200)
        ids = ids_of_keys(Corpus.open(corpus_dir), ["k30", "k2"], pool=pool)
        assert ids == [2, 30]
        remove_passages(corpus_dir, ids, count=count, pool=pool)
    remove_passages(other, ids, count=count)
    assert grown == alone
    assert rows_of(corpus_dir) == rows_of(other)


def test_two_keys_of_one_hash_are_two_passages(
    corpus_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 64-bit hashes may meet once in many corpora; here every key meets every other."""
    true = corpus_keys.key_hashes

    def meeting(keys: Any) -> Any:
        return true(keys) % 1

    monkeypatch.setattr(corpus_keys, "key_hashes", meeting)
    monkeypatch.setattr("sharding.ingest.parse_task.key_hashes", meeting)
    grown = append_passages(corpus_dir, [write(tmp_path / "b.jsonl", [row(11)])])
    assert grown.num_added == 1
    same = append_passages(corpus_dir, [write(tmp_path / "b.jsonl", [row(11)])])
    assert (same.num_added, same.num_there) == (0, 1)
    assert ids_of_keys(Corpus.open(corpus_dir), ["k11"]) == [10]
    with pytest.raises(CorpusError, match="no passage with the key 'k99'"):
        ids_of_keys(Corpus.open(corpus_dir), ["k99"])


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4)), min_size=1, max_size=5),
        ),
        st.tuples(st.just("ids"), st.lists(st.integers(0, 12), min_size=1, max_size=4)),
        st.tuples(st.just("keys"), st.lists(st.integers(0, 8), min_size=1, max_size=3)),
    ),
    min_size=1,
    max_size=6,
)


class Model:
    """What a corpus must hold: a row by id, None in the place of a removed one."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows: list[Row | None] = list(rows)
        self.removed: dict[int, str] = {}

    def live(self) -> dict[str, int]:
        return {each[0]: at for at, each in enumerate(self.rows) if each is not None}

    def add(self, rows: Sequence[Row]) -> bool:
        keys = [each[0] for each in rows]
        live = self.live()
        if len(set(keys)) < len(keys):
            return False
        if any(self.rows[live[each[0]]] != each for each in rows if each[0] in live):
            return False
        self.rows += [each for each in rows if each[0] not in live]
        return True

    def remove(self, ids: Sequence[int]) -> bool:
        if any(each >= len(self.rows) for each in ids):
            return False
        for each in ids:
            gone = self.rows[each]
            if gone is not None:
                self.removed[each], self.rows[each] = gone[0], None
        return True

    def ids_of(self, keys: Sequence[str]) -> list[int] | None:
        live = self.live()
        found: set[int] = set()
        for key in keys:
            ids = [live[key]] if key in live else [i for i, k in self.removed.items() if k == key]
            if not ids:
                return None
            found.update(ids)
        return sorted(found)

    def expected(self) -> list[Row]:
        return [
            each if each is not None else (removed_key(self.removed[at]), "", "")
            for at, each in enumerate(self.rows)
        ]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=operations)
def test_any_sequence_of_adds_and_removals_is_that_of_a_list(
    steps: list[tuple[str, list[Any]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("model")
    rows = [row(i) for i in range(3)]
    corpus = directory / "c"
    prepare([write(directory / "a.jsonl", rows)], corpus, partition_size=2)
    model = Model(rows)
    for verb, what in steps:
        ids = what
        done: bool
        try:
            if verb == "add":
                added = [row(number, variant // 4) for number, variant in what]
                expected = model.add(added)
                append_passages(corpus, [write(directory / "b.jsonl", added)], split_bytes=60)
            else:
                if verb == "keys":
                    keys = [f"k{number}" for number in what]
                    known = model.ids_of(keys)
                    expected, ids = known is not None, known or []
                    assert ids_of_keys(Corpus.open(corpus), keys) == ids
                expected = model.remove(ids)
                removed = remove_passages(corpus, ids, count=count)
                assert len(removed.ids) + removed.num_before == len(set(ids))
            done = True
        except CorpusError:
            done = False
        assert done == expected
        assert rows_of(corpus) == model.expected()
        manifest = CorpusManifest.load(corpus)
        assert manifest.removed == sorted(model.removed)
    assert [each for each in problems(corpus) if "left by" not in each] == []


def test_an_add_killed_at_any_step_is_finished_by_the_same_command(
    tmp_path: Path, killed_after: KilledAfter
) -> None:
    rows = [row(i) for i in range(6)]
    first = write(tmp_path / "a.jsonl", rows[:3])
    second = write(tmp_path / "b.jsonl", rows[2:])
    for survives in counter():
        directory = tmp_path / str(survives)
        prepare([first], directory, partition_size=2)

        def add(directory: Path = directory) -> object:
            return append_passages(directory, [second], split_bytes=100)

        killed = killed_after(survives, add)
        assert rows_of(directory) in (rows[:3], rows)
        assert [p for p in problems(directory) if "left by" not in p] == []
        add()
        manifest = CorpusManifest.load(directory)
        assert rows_of(directory) == rows
        assert manifest.source == [first, second]
        assert set(list_names(directory)) == files_of(manifest)
        if not killed:
            break
    assert survives > 8


def test_a_stopped_add_goes_on_with_the_splits_and_shards_that_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: KilledAfter
) -> None:
    prepare([write(tmp_path / "a.jsonl", [row(0)])], tmp_path / "c", partition_size=2)
    source = write(tmp_path / "b.jsonl", [row(i) for i in range(1, 9)])
    plain = os.replace

    def add() -> object:
        return append_passages(tmp_path / "c", [source], split_bytes=100)

    assert killed_after(14, add)
    kept = {path.name for path in (tmp_path / "c").rglob("*") if path.suffix in (".tar", "")}
    kept = {name for name in kept if name.startswith(("split", "part"))}
    assert len(kept) > 6
    written: list[str] = []

    def noting(source: str, target: str) -> None:
        written.append(os.path.basename(target))
        plain(source, target)

    monkeypatch.setattr(os, "replace", noting)
    add()
    assert not {name for name in written if name.startswith("split")} & kept
    assert rows_of(tmp_path / "c") == [row(i) for i in range(9)]

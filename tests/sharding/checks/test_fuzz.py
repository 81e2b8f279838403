"""Some two thousand damaged or forged corpora, each read in every way there is.

Whatever was done to a shard, its index or the manifest, a reader gives exactly the records that it
should, or a `CorpusError` that names the file: no other exception, no wrong record, no hang, no
large allocation, and nothing of the corpus is changed. `verify` finds what was done, and mending
what it can never loses a shard.

Where an attacker also put the right checksums into the manifest, the bytes themselves must
convince: there the reference is Python's `tarfile` and `json`.
"""

import copy
import hashlib
import io
import json
import random
import shutil
import signal
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from sharding.checks.problem import mend
from sharding.checks.verify import verify_corpus
from sharding.corpus.manifest import MANIFEST_NAME, CorpusManifest
from sharding.corpus.partitions import write_partition
from sharding.corpus.passages import QA, Augmentation, Passage, Record, to_json
from sharding.corpus.reader import Corpus
from sharding.corpus.shard_index import index_name, index_of
from sharding.corpus.tar import Int64Array, pack_shard
from sharding.errors import CorpusError
from sharding.stream.epoch import WorkerStream

MAX_SECONDS = 20.0  # for one corpus, read in every way; milliseconds are normal
MAX_BYTES = 4 << 20  # that may be allocated for it; the corpora take 20 kB

SIZES = (5, 3, 1)
TEXTS = ("Oslo is a city.", "", 'Größe → 3 µm\n\t"x" \\ /', "a" * 700, "b" * 400, "深い海")


def record(passage_id: int) -> Record:
    text = TEXTS[passage_id % len(TEXTS)]
    qas = tuple(QA(f"Q{i}?", text[:9], f"It is {i}.") for i in range(passage_id % 3))
    return Record(
        Passage(passage_id, f"key-{passage_id}", f"Title {passage_id}", text),
        Augmentation((text[::-1],), qas) if passage_id < 8 else None,
    )


RECORDS = [record(passage_id) for passage_id in range(sum(SIZES))]


def count(given: Record) -> dict[str, int]:
    return {"qa": len(given.augmentation.qas) if given.augmentation else 0, "passage": 1}


Files = dict[str, bytes | None]  # None: a directory is in the file's place


def made_files(directory: Path) -> Files:
    partitions = []
    first_id = 0
    for index, size in enumerate(SIZES):
        records = RECORDS[first_id : first_id + size]
        counts = {"qa": sum(count(r)["qa"] for r in records), "passage": size}
        partitions.append(
            write_partition(directory, index, records=records, augmented=True, counts=counts)
        )
        first_id += size
    CorpusManifest(
        ["made.jsonl"], len(RECORDS), 5, tuple(partitions), options={"on_error": "stop"}
    ).save(directory)
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@dataclass(frozen=True)
class Place:
    """A corpus in a directory, and its files as they were written."""

    directory: Path
    files: Files

    @property
    def shards(self) -> list[str]:
        return [name for name in self.files if name.endswith(".tar")]

    @property
    def indexes(self) -> list[str]:
        return [name for name in self.files if name.endswith(".idx")]

    def manifest(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.files[MANIFEST_NAME] or b"")
        return values

    def put(self, files: Files) -> None:
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        for name, data in files.items():
            if data is None:
                (self.directory / name).mkdir()
            else:
                (self.directory / name).write_bytes(data)

    def now(self) -> Files:
        return {
            path.name: path.read_bytes() if path.is_file() else None
            for path in self.directory.iterdir()
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    directory = tmp_path_factory.mktemp("fuzzed") / "corpus"
    return Place(directory, made_files(directory))


class HangError(BaseException):
    """Not an `Exception`, so that nothing on the way takes it for a failed read."""


@contextmanager
def bounded() -> Iterator[list[int]]:
    """Ends what takes too long; then the list has the most bytes that were allocated at a time."""

    def ring(*_: object) -> None:
        raise HangError(f"not done after {MAX_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Same:
    """One example a record: itself."""

    def count(self, record: Record) -> int:
        return 1

    def make(self, wanted: Any) -> list[Record]:
        return [record for record, _ in wanted]


def by_partition(directory: Path) -> list[Record]:
    corpus = Corpus.open(directory)
    return [r for partition in corpus.manifest.partitions for r in corpus.records(partition)]


def by_iterating(directory: Path) -> list[Record]:
    return list(Corpus.open(directory).iterate())


def by_id(directory: Path) -> list[Record]:
    corpus = Corpus.open(directory)
    return [corpus.record(passage_id) for passage_id in range(len(RECORDS))]


def by_lane(directory: Path) -> list[Record]:
    stream = WorkerStream(
        Corpus.open(directory),
        rank=0,
        world_size=1,
        num_lanes=2,
        seed=1,
        microbatch=2,
        expand=Same(),
        num_examples=lambda partition: partition.num_passages,
    )
    with stream:
        found = [item for step in stream for batch in step.lanes for item in batch.items]
    return sorted(found, key=lambda r: r.passage.id)


Reader = Callable[[Path], list[Record]]
READERS: tuple[Reader, ...] = (by_partition, by_iterating, by_id, by_lane)


def read_all(
    directory: Path, allowed: list[list[Record]], readers: Sequence[Reader] = READERS
) -> set[str]:
    """Reads a corpus in all ways; the readers that refused it."""
    refused = set()
    for reader in readers:
        try:
            found = reader(directory)
        except CorpusError as error:
            message = str(error)
            assert MANIFEST_NAME in message or "part-" in message, message
            refused.add(reader.__name__)
        else:
            assert found in allowed, f"{reader.__name__} gave wrong records"
    return refused


def check(
    place: Place,
    files: Files,
    *,
    allowed: list[list[Record]] | None = None,
    must_refuse: bool = False,
    must_find: bool = True,
    must_read: bool = False,
) -> None:
    """Does everything with a changed corpus.

    Args:
        place: where.
        files: the changed corpus.
        allowed: the records that a reader may give.
        must_refuse: whether every reader must refuse it.
        must_find: whether `verify` must have something to say.
        must_read: whether every reader must give the records.
    """
    allowed = [RECORDS] if allowed is None else allowed
    # Whatever other tests left running allocates too: what a corpus asks for, it asks for again.
    peaks: list[int] = []
    while not peaks or (peaks[-1] >= MAX_BYTES and len(peaks) < 3):
        with bounded() as peak:
            check_once(
                place,
                files,
                allowed=allowed,
                must_refuse=must_refuse,
                must_find=must_find,
                must_read=must_read,
            )
        peaks += peak
    assert peaks[-1] < MAX_BYTES, f"{peaks} bytes were allocated, beside {threading.enumerate()}"


def check_once(
    place: Place,
    files: Files,
    *,
    allowed: list[list[Record]],
    must_refuse: bool,
    must_find: bool,
    must_read: bool,
) -> None:
    place.put(files)
    found = verify_corpus(str(place.directory), count=count)
    assert place.now() == files, "verify changed a file"
    quick = verify_corpus(str(place.directory), quick=True)
    refused = read_all(place.directory, allowed)
    assert not (refused and not found.problems), "readers refuse what verify finds sound"
    assert not (must_find and not found.problems), "verify found nothing"
    assert found.problems or not quick.problems, "only the quick look found something"
    assert not must_refuse or refused == {reader.__name__ for reader in READERS}, refused
    assert not must_read or not refused, refused
    for problem in (*found.problems, *quick.problems):
        assert "part-" in problem.message or MANIFEST_NAME in problem.message, problem
        assert str(place.directory) in problem.message
    kept = {name: data for name, data in files.items() if not name.endswith(".idx")}
    after = {name: data for name, data in place.now().items() if not name.endswith(".idx")}
    assert after == kept, "a reader changed a file"
    if mend(found.problems)[0]:
        read_all(place.directory, allowed, (by_partition, by_id))
    shards = {name: data for name, data in files.items() if name.endswith(".tar")}
    assert shards.items() <= place.now().items(), "a repair changed or removed a shard"


# Damage to bytes, as disks and networks do it.


_DAMAGES = (
    "flip", "flip", "cut", "cut", "insert", "copy", "swap", "remove", "append", "zero", "random",
    "empty",
)  # fmt: skip


def damaged(data: bytes, dice: random.Random) -> bytes:
    """The bytes with something done to them."""
    raw = bytearray(data)
    blocks = max(len(raw) // 512, 1)

    def block() -> slice:
        start = 512 * dice.randrange(blocks)
        return slice(start, min(start + 512, len(raw)))

    match dice.choice(_DAMAGES):
        case "flip":
            for _ in range(dice.choice([1, 1, 2, 8])):
                raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        case "cut":
            del raw[dice.randrange(len(raw)) :]
        case "insert":
            at = block().start
            raw[at:at] = dice.choice([bytes(512), dice.randbytes(512), b"\0"])
        case "copy":
            source, at = block(), block().start
            raw[at:at] = raw[source]
        case "swap":
            left, right = block(), block()
            raw[left], raw[right] = raw[right], raw[left]
        case "remove":
            del raw[block()]
        case "append":
            raw += dice.choice([b"\0", bytes(512), dice.randbytes(700), bytes(10240)])
        case "zero":
            at = block()
            raw[at] = bytes(at.stop - at.start)
        case "random":
            at = block()
            raw[at] = dice.randbytes(at.stop - at.start)
        case "empty":
            raw.clear()
    return bytes(raw)


def bytes_of(files: Files, name: str) -> bytes:
    data = files[name]
    assert data is not None
    return data


@pytest.mark.parametrize("seed", range(8))
def test_damaged_shards(place: Place, seed: int) -> None:
    dice = random.Random(f"shards {seed}")
    for _ in range(40):
        name = dice.choice(place.shards)
        data = damaged(bytes_of(place.files, name), dice)
        same = data == place.files[name]
        check(place, place.files | {name: data}, must_find=not same, must_read=same)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_indexes_cost_nothing_but_time(place: Place, seed: int) -> None:
    dice = random.Random(f"indexes {seed}")
    for _ in range(40):
        name = dice.choice(place.indexes)
        data = damaged(bytes_of(place.files, name), dice)
        changed = place.files | {name: data}
        check(place, changed, must_find=data != place.files[name], must_read=True)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_manifests_and_their_repair(place: Place, seed: int) -> None:
    dice = random.Random(f"manifests {seed}")
    for _ in range(40):
        data = damaged(bytes_of(place.files, MANIFEST_NAME), dice)
        check(place, place.files | {MANIFEST_NAME: data}, must_find=False)


@pytest.mark.parametrize("seed", range(2))
def test_damage_in_several_files_at_once(place: Place, seed: int) -> None:
    dice = random.Random(f"several {seed}")
    for _ in range(40):
        changed = dict(place.files)
        for name in dice.sample(list(changed), dice.randint(2, len(changed))):
            changed[name] = damaged(bytes_of(changed, name), dice)
        check(place, changed, must_find=False)


def test_files_that_are_gone_or_others(place: Place) -> None:
    for name in place.files:
        is_index = name.endswith(".idx")
        rest = {other: data for other, data in place.files.items() if other != name}
        # Without a manifest, `verify` looks at the shards, and mending makes it again.
        check(place, rest, must_refuse=not is_index and name != place.shards[1], must_read=is_index)
        check(place, rest | {name: None}, must_read=is_index)
        for other in place.files:
            if other != name:
                check(place, rest | {name: place.files[other]}, must_read=is_index)


def test_a_lost_manifest_is_made_again(place: Place) -> None:
    place.put({name: data for name, data in place.files.items() if name != MANIFEST_NAME})
    done, left = mend(verify_corpus(str(place.directory), count=count).problems)
    assert (len(done), left) == (1, [])
    assert by_partition(place.directory) == RECORDS
    assert verify_corpus(str(place.directory), count=count).problems == []
    rebuilt = CorpusManifest.load(place.directory)
    place.put(place.files)
    original = CorpusManifest.load(place.directory)
    # The last record has no augmentation: of its partition nobody knows any more that it is done.
    last = structs.replace(original.partitions[2], augmented=False, counts={})
    assert rebuilt.partitions == (*original.partitions[:2], last)


# Forgeries: the manifest has the checksums of what the attacker made.


def sealed(
    place: Place, name: str, data: bytes, *, index: str, sizes: Int64Array | None = None
) -> Files:
    """The corpus with another shard, and everything else changed to fit it.

    Args:
        place: of the corpus.
        name: the shard that is replaced.
        data: what by.
        index: "none", "old" (of the shard before, only its checksum changed), "forged" (of the old
            documents' places in the new bytes), or "true".
        sizes: of the new documents, for a true index.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    number = name.split("-")[1]
    renamed = f"part-{number}-{sha256[:12]}.tar"
    values = place.manifest()
    entry = values["partitions"][int(number)]
    entry |= {"file": renamed, "sha256": sha256, "num_bytes": len(data)}
    files = {k: v for k, v in place.files.items() if k not in (name, index_name(name))}
    if index != "none":
        old = bytes_of(place.files, name)
        sizes = pack_shard(0, documents(old))[1] if sizes is None else sizes
        source = old if index == "old" else data + bytes(max(0, len(old) - len(data)))
        files[index_name(renamed)] = index_of(source, sizes, sha256=sha256).to_bytes()
    return files | {renamed: data, MANIFEST_NAME: json.dumps(values).encode()}


def documents(shard: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        return [(tar.extractfile(member) or io.BytesIO()).read() for member in tar]


def plain_reading(place: Place, name: str, data: bytes) -> list[Record] | None:
    """All records as `tarfile` and `json` read them; None where they can't or it isn't a corpus."""
    found: list[Record] = []
    try:
        for shard in place.shards:
            for document in documents(data if shard == name else bytes_of(place.files, shard)):
                values = json.loads(document)
                written = values.pop("augmentation")
                passage = Passage(**values)
                augmentation = None
                if written is not None:
                    qas = tuple(QA(**qa) for qa in written.pop("qas"))
                    augmentation = Augmentation(tuple(written.pop("rewrites")), qas, **written)
                found.append(Record(passage, augmentation))
                to_json(found[-1])  # `json` lets lone surrogates through
    except (
        CorpusError,
        tarfile.TarError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ):
        return None
    return found


@pytest.mark.parametrize("seed", range(6))
def test_forged_bytes(place: Place, seed: int) -> None:
    dice = random.Random(f"forged {seed}")
    for _ in range(40):
        name = dice.choice(place.shards)
        data = damaged(bytes_of(place.files, name), dice)
        reading = plain_reading(place, name, data)
        files = sealed(place, name, data, index=dice.choice(["none", "old", "forged"]))
        check(place, files, allowed=[RECORDS, *([reading] if reading else [])], must_find=False)


def base256(number: int, length: int) -> bytes:
    """GNU tar's binary form of large and of negative numbers."""
    raw = bytearray(number.to_bytes(length, "big", signed=True))
    raw[0] |= 0x80
    return bytes(raw)


DIGITS = "\u0660" * 5  # which `int` takes for zeros
NAME, SIZE, KIND, LINK, MAGIC, PREFIX = (
    (0, 100),
    (124, 12),
    (156, 1),
    (157, 100),
    (257, 8),
    (345, 155),
)
HEADERS: list[tuple[tuple[int, int], bytes]] = [
    *((NAME, name) for name in (
        b"../000000000000.json", b"/etc/passwd", b"../../../../tmp/x", b"a/../000000000001.json",
        b"./000000000000.json", b"000000000099.json", b"000000000000.json\0/../x", b"", b"x" * 100,
        b"-00000000001.json", b"+00000000001.json", b"00000000000_.json", b"000000000000.JSON",
        DIGITS.encode(), b"\xff\xfe", b"000000000000.json/", b"con", b"pipe:cat /etc/passwd",
    )),
    *((SIZE, size) for size in (
        b"77777777777\0", b"00000000000\0", b"00000000001\0", b"-0000000001\0", b"+0000000010\0",
        b"0x000000010\0", b"   12      \0", b"1_000_0000\0 ", b"00000001000 ", b"99999999999\0",
        base256(1 << 40, 12), base256((1 << 88) - 1, 12), base256(-1, 12), base256(-512, 12),
        b"00400000000\0", b"00377777777\0", b"\0" * 12, b"nan".ljust(12),
    )),
    *((KIND, kind) for kind in (
        b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"V", b"M", b"\0",
    )),
    (LINK, b"/etc/passwd"), (LINK, b"../../x"), (MAGIC, b"ustar  \0"), (MAGIC, bytes(8)),
    (PREFIX, b".."), (PREFIX, b"/etc"), ((100, 8), b"0006755\0"), ((108, 8), b"0001750\0"),
    ((136, 12), b"14000000000\0"), ((136, 12), base256(-1, 12)), ((265, 32), b"root"),
    ((329, 8), b"7777777\0"), ((500, 12), b"x" * 12), ((148, 8), b"0000000\0"),
]  # fmt: skip


def with_field(shard: bytes, at: int, field: tuple[int, int], value: bytes) -> bytes:
    """A shard with a changed header field, and the header's checksum made to fit."""
    header = bytearray(shard[at : at + 512])
    start, length = field
    header[start : start + length] = value.ljust(length, b"\0")[:length]
    if start != 148:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return shard[:at] + bytes(header) + shard[at + 512 :]


def header_offsets(shard: bytes) -> list[int]:
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        return [member.offset for member in tar]


def test_forged_headers(place: Place) -> None:
    dice = random.Random("headers")
    for field, value in HEADERS:
        for name in place.shards[:2]:
            shard = bytes_of(place.files, name)
            data = with_field(shard, dice.choice(header_offsets(shard)), field, value)
            # No member has moved, so that the old index is the true one.
            files = sealed(place, name, data, index="old")
            check(place, files, must_find=data != shard)
            check(place, place.files | {name: data}, must_find=data != shard)


def special_member(kind: str) -> bytes:
    """A member (with its extension header) that only a lenient reader would take."""
    info = tarfile.TarInfo("000000000000.json")
    form = tarfile.PAX_FORMAT
    match kind:
        case "pax path":
            info.pax_headers = {"path": "../../etc/passwd"}
        case "pax size":
            info.pax_headers = {"size": str(1 << 50)}
        case "pax global":
            return tarfile.TarInfo.create_pax_global_header({"comment": "x", "path": "/etc/x"})
        case "pax huge":
            info.pax_headers = {"comment": "x" * 20000}
        case "pax sparse":
            info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 60)}
        case "long name":
            form, info.name = tarfile.GNU_FORMAT, "../" * 100 + "x"
        case "long link":
            form, info.type, info.linkname = tarfile.GNU_FORMAT, tarfile.SYMTYPE, "/" + "x" * 300
        case "link":
            info.type, info.linkname = tarfile.LNKTYPE, "000000000001.json"
        case "directory":
            info.type = tarfile.DIRTYPE
        case "device":
            info.type, info.devmajor = tarfile.CHRTYPE, 1
    return info.tobuf(form)


@pytest.mark.parametrize(
    "kind",
    [
        "plain", "pax path", "pax size", "pax global", "pax huge", "pax sparse", "long name",
        "long link", "link", "directory", "device",
    ],
)  # fmt: skip
def test_forged_extra_members(place: Place, kind: str) -> None:
    extra = special_member(kind)
    for name in place.shards:
        shard = bytes_of(place.files, name)
        for at in {0, header_offsets(shard)[-1], len(shard) - 1024, len(shard)}:
            data = shard[:at] + extra + shard[at:]
            check(place, sealed(place, name, data, index="old"))


DEEP = "[" * 9_000 + "]" * 9_000
VALUES = (
    "null", "true", "1", "-1", "0.0", "1e0", "1e400", "NaN", "Infinity", "-0",
    "9223372036854775808", "1" * 5000, '"x"', '""', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"',
    "[]", "{}", "[null]",
    '[["x"]]', '["\\ud800"]', '{"qas":[],"rewrites":[]}', '{"rewrites":["x"]}', DEEP,
    '{"rewrites":' + DEEP + ',"qas":[]}', '{"rewrites":[],"qas":[{"question":"q"}]}',
    '{"rewrites":[],"qas":[{"question":1,"answer":"a","full_answer":"f"}]}', "", "'x'", "\x00",
)  # fmt: skip


def record_variants(document: bytes) -> Iterator[bytes]:
    """A record's JSON with one thing changed in each."""
    values = json.loads(document)
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}

    def joined(parts: dict[str, str], *more: str) -> bytes:
        pairs = [f'"{name}":{text}' for name, text in parts.items()]
        return ("{" + ",".join([*pairs, *more]) + "}").encode("utf-8", "surrogatepass")

    for name in texts:
        yield from (joined(texts | {name: value}) for value in VALUES)
        yield joined({other: text for other, text in texts.items() if other != name})
        yield joined(texts, f'"{name}":{texts[name]}')
        yield joined(texts, f'"{name}":"another"')
    yield joined(texts | {"id": str(values["id"] + 1)})
    yield joined(texts, '"extra":1')
    yield joined(texts, f'"extra":{DEEP}')
    yield document + b" "
    yield document + document
    yield b"\xef\xbb\xbf" + document
    yield document.decode().encode("utf-16")
    yield document.replace(b"Title", b"\xed\xa0\x80")
    yield document.replace(b"Title", b"T\xc3")
    yield document.replace(b"Title", b"Other")
    yield b"[" + document + b"]"
    yield b""
    yield DEEP.encode()
    yield document.replace(b'"', b"'")


def test_forged_records(place: Place) -> None:
    name = place.shards[1]
    originals = documents(bytes_of(place.files, name))
    first_id = SIZES[0]
    for variant in record_variants(originals[1]):
        changed = [originals[0], variant, originals[2]]
        packed, sizes = pack_shard(first_id, changed)
        data = bytes(packed)
        reading = plain_reading(place, name, data)
        if reading is not None and [r.passage.id for r in reading] != list(range(len(RECORDS))):
            reading = None
        files = sealed(place, name, data, index="true", sizes=sizes)
        # A record that anyone could have written is found by nobody; one that is written otherwise
        # than `to_json` writes it is.
        canonical = reading is not None and variant == to_json(reading[first_id + 1])
        check(
            place,
            files,
            allowed=[RECORDS, *([reading] if reading else [])],
            must_find=not canonical,
        )


STRANGE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 10**12, 10**18, 10**30, -(10**30), 0.5, 1e308, "", "x", "0",
    "../part-00000-000000000000.tar", "/etc/passwd", "a\\b", f"part-{DIGITS}-000000000000.tar",
    "part-00000-000000000000.tar\n", "pipe:cat /etc/passwd", "0" * 64, "z" * 64, [], {}, [[]],
    {"x": -1}, {"qa": 10**30}, {"qa": 1.5}, {"qa": None}, {"": 0}, ["x"], [1], "\ud800",
)  # fmt: skip


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON value."""
    if path:
        yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from paths(inner, (*path, key))


def changed_at(values: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy in which `change(container, key)` was called at a path."""
    made = copy.deepcopy(values)
    container = made
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return made


@pytest.mark.parametrize("seed", range(8))
def test_forged_manifests(place: Place, seed: int) -> None:
    dice = random.Random(f"values {seed}")
    original = place.manifest()
    every = list(paths(original))
    for _ in range(40):
        values = original
        for _ in range(dice.choice([1, 1, 1, 2, 4])):
            path = dice.choice(every)
            strange = dice.choice(STRANGE)

            def change(container: Any, key: Any, strange: Any = strange) -> None:
                match dice.randrange(6):
                    case 0 if isinstance(container, dict):
                        container.pop(key)
                    case 1 if isinstance(container, dict):
                        container[f"{key} "] = strange
                    case 2 if isinstance(container, list):
                        container.insert(dice.randrange(len(container) + 1), container[key])
                    case 3 if isinstance(container[key], int):
                        container[key] += dice.choice([-1, 1])
                    case _:
                        container[key] = strange

            try:
                values = changed_at(values, path, change)
            except (KeyError, IndexError, TypeError):
                continue  # the first change took away what the second is about
        check(place, place.files | {MANIFEST_NAME: json.dumps(values).encode()}, must_find=False)


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        ('"version": 3', '"version": 1', True),
        ('"version": 3', '"version": 4', True),
        ('"version": 3', '"version": "3"', True),
        ('"version": 3', '"version": 3, "version": 9', True),
        ('"version": 3', '"version": 9, "version": 3', False),
        ('"num_passages": 9', '"num_passages": NaN', True),
        ('"num_passages": 9', f'"num_passages": {"9" * 5000}', True),
        ('"options": {', '"options": {"x": NaN,', True),
        ('"options": {', '"options": {"x": "\\ud800",', True),
        ('"options": {', f'"options": {{"x": {DEEP},', True),
        ('"made.jsonl"', '"\\ud800"', True),
        ('"first_id": 5', '"first_id": 4', True),
        ('"first_id": 5', '"first_id": -5', True),
        ('"index": 1', '"index": 0', True),
        ('"qa": ', '"qa": -', True),
        ("part-00001-", "../part-00001-", True),
        ("part-00001-", "/part-00001-", True),
        ("part-00001-", "part-00000-", True),
        ("{", "", True),
        ("}", "", True),
        ("{", "\ufeff{", True),
    ],
)
def test_manifests_of_other_versions_and_forms(
    place: Place, old: str, new: str, refused: bool
) -> None:
    text = bytes_of(place.files, MANIFEST_NAME).decode()
    assert old in text
    data = text.replace(old, new, 1).encode()
    check(
        place,
        place.files | {MANIFEST_NAME: data},
        must_refuse=refused,
        must_find=refused,
        must_read=not refused,
    )


def test_partitions_that_overlap_are_refused_even_if_their_shards_do_too(place: Place) -> None:
    """Two partitions with the same ids, both with true checksums."""
    values = place.manifest()
    data, _ = pack_shard(4, [to_json(with_id(RECORDS[i + 1], i)) for i in (4, 5, 6)])
    files = sealed(place, place.shards[1], bytes(data), index="none")
    forged = json.loads(bytes_of(files, MANIFEST_NAME))
    forged["partitions"][1]["first_id"] = 4
    assert forged["num_passages"] == values["num_passages"]
    check(place, files | {MANIFEST_NAME: json.dumps(forged).encode()}, must_refuse=True)


def with_id(given: Record, passage_id: int) -> Record:
    passage = given.passage
    return Record(Passage(passage_id, passage.key, passage.title, passage.text), given.augmentation)

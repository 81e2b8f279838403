"""Every kind of manifest, however damaged: it is read, or an error names file, field and remedy."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cluster.checkpoints.manifest import CheckpointManifest, RowsFile, StateFile
from cluster.plan.phases import Phase
from polyprag.answering.trust.abstention import Abstention, CalibratedRule
from polyprag.augment.work.overwriting import OVERWRITING, Overwriting
from polyprag.augment.work.own_pairs import OWN_PAIRS, KeptPairs, PairsOfPassage
from polyprag.encoding.base import BaseModel
from polyprag.encoding.manifest import EncodingManifest, ExpertsFile, RowsPart, Trained
from polyprag.errors import RunError
from polyprag.retrieval.parts.manifest import IndexManifest, Segment
from polyprag.retrieval.parts.part import IndexPart, StoredFile
from polyprag.routed.map_file import MapSettings
from polyprag.teaching.manifest import TaughtPart, TeachingManifest
from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.corpus.passages import QA
from sharding.errors import CorpusError, PolypragError
from sharding.stream.plan import Cursor, LaneCursor

SHA = "0123456789ab" + "c" * 52
CORPUS = CorpusManifest(
    source=["a.jsonl"],
    num_passages=3,
    partition_size=2,
    partitions=(
        Partition(0, 0, 2, f"part-00000-{SHA[:12]}.tar", 9, SHA, True, {"qa": 3}),
        Partition(1, 2, 1, f"part-00001-{SHA[:12]}.tar", 9, SHA, False, {}),
    ),
    source_sha256=[SHA],
    options={"chunk_words": 100},
    skipped={"empty text": 1},
    augmentation={"backend": "rules"},
    removed=[1],
)
ENCODING = EncodingManifest(
    base_model=BaseModel("base", 2, 8, SHA, SHA, SHA, None, {"rope_theta": 1e4}),
    num_passages=3,
    num_sites=2,
    num_experts=4,
    rank=2,
    parts=(
        RowsPart(0, 0, 2, "rows/part-00000.safetensors", SHA, True),
        RowsPart(1, 2, 1, "rows/part-00001-0123456789ab.safetensors", SHA, False),
    ),
    experts=ExpertsFile("experts.safetensors", SHA),
    trained=Trained(5, 1),
)
TEACHING = TeachingManifest(
    base_model=BaseModel("base", 2, 8, SHA, SHA, SHA, None, {"rope_theta": 1e4}),
    settings={"generation.prompt": "auto"},
    parts=(
        TaughtPart(
            0,
            SHA,
            f"part-00000-{SHA[:12]}.safetensors",
            SHA,
            9,
            3,
            7,
            1,
            0,
            num_cut=1,
            answers="all",
            max_new_tokens=32,
        ),
        TaughtPart(
            2,
            SHA,
            f"part-00002-{SHA[:12]}.safetensors",
            SHA,
            9,
            3,
            7,
            1,
            0,
            num_cut=1,
            answers="all",
            max_new_tokens=32,
        ),
    ),
)
NAMES = ("passages", "bm25", "embeddings", "dense", "rows", "encoder")
INDEX = IndexManifest(
    num_passages=3,
    settings_sha256=SHA,
    experts_sha256=SHA,
    removed=[1],
    segments=(
        Segment(
            0,
            3,
            [SHA],
            [SHA],
            {n: [IndexPart(f"{n}-0123456789ab", {"x.bin": StoredFile(3, SHA)})] for n in NAMES},
        ),
    ),
)
ROWS = RowsFile("rows-00003.safetensors", SHA, 20, 7, 4, 9, 1, 2.5)
CHECKPOINT = CheckpointManifest(
    step=7,
    cursor=Cursor(0, 7, (LaneCursor(1, 2),)),
    world_size=2,
    identity={"train.seed": 0},
    phases=(Phase(0, 9, 0, 3, 4),),
    experts=StateFile("experts.safetensors", SHA, 10),
    rows={3: ROWS},
    previous_step=5,
)

RULE = CalibratedRule(
    weights={"match": 2.5, "log_tokens": -0.5},
    intercept=-1.5,
    threshold=0.5,
    num_questions=40,
    f1=0.5,
    coverage=0.25,
    f1_trusted=0.9,
)
ABSTENTION = Abstention(
    experts_sha256=SHA, settings={"retrieval.top_k": 1}, modes={"poly": RULE, "rag": RULE}
)


@dataclass(frozen=True)
class Kind:
    """A kind of manifest: how to read it, the bytes of a sound one, and what a refusal says."""

    read: Callable[[str], object]
    name: str
    document: bytes
    error: type[PolypragError]
    remedy: str

    def check(self, directory: Path, data: bytes, *, refused: bool = False, named: str = "") -> str:
        """Returns the error's text, if there is one; any but the user's own error is raised."""
        path = directory / self.name
        path.write_bytes(data)
        try:
            self.read(str(directory))
        except self.error as error:
            text = str(error)
            assert text.startswith(f"{path}: ") and self.remedy in text and named in text, text
            return text
        assert not refused, data[:200]
        return ""


def document_of(save: Callable[[Path], None], tmp: Path, name: str) -> bytes:
    save(tmp)
    return (tmp / name).read_bytes()


KINDS = [
    "corpus",
    "teacher",
    "encoding",
    "index",
    "router",
    "checkpoint",
    "overwriting",
    "own pairs",
    "abstention",
]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    tmp, name = tmp_path_factory.mktemp("made"), "manifest.json"
    if request.param == "corpus":
        document = document_of(CORPUS.save, tmp, name)
        return Kind(CorpusManifest.load, name, document, CorpusError, "run `polyprag prepare`")
    if request.param == "teacher":
        document = document_of(TEACHING.save, tmp, name)
        return Kind(TeachingManifest.load, name, document, RunError, "run `polyprag teach RUN`")
    if request.param == "encoding":
        document = document_of(ENCODING.save, tmp, name)
        return Kind(EncodingManifest.load, name, document, RunError, "run `polyprag encode RUN`")
    if request.param == "index":
        document = document_of(INDEX.save, tmp, name)
        return Kind(IndexManifest.load, name, document, RunError, "run `polyprag index RUN`")
    if request.param == "checkpoint":
        document = document_of(lambda path: CHECKPOINT.save(str(path)), tmp, name)
        return Kind(CheckpointManifest.load, name, document, RunError, "delete its directory")
    if request.param == "own pairs":
        name = "own-pairs.json"
        pairs = KeptPairs((PairsOfPassage(0, SHA[:32], (QA("Q?", "a", "a"),)),))
        document = document_of(lambda path: OWN_PAIRS.write(path / name, pairs), tmp, name)
        return Kind(
            lambda directory: OWN_PAIRS.read(f"{directory}/{name}"),
            name,
            document,
            RunError,
            "run `polyprag augment RUN --qa FILE`",
        )
    if request.param == "overwriting":
        name = "overwriting.json"
        begun = Overwriting(SHA[:32], SHA)
        document = document_of(lambda path: OVERWRITING.write(path / name, begun), tmp, name)
        return Kind(
            lambda directory: OVERWRITING.read(f"{directory}/{name}"),
            name,
            document,
            RunError,
            "run `polyprag augment RUN --overwrite`",
        )
    if request.param == "abstention":
        document = document_of(ABSTENTION.save, tmp, "abstention.json")
        return Kind(
            Abstention.load, "abstention.json", document, RunError, "run `polyprag calibrate RUN`"
        )
    values = {
        "format": "polyprag-router",
        "version": 1,
        "made_of": {"encoding": "e", "encoder": "lsa"},
        "num_sites": 2,
        "num_questions": 3,
        "num_passages": 4,
        "cosine": 0.5,
        "num_bytes": 10,
        "sha256": SHA,
    }
    document = json.dumps(values).encode()
    return Kind(MapSettings.load, "router.json", document, RunError, "run `polyprag distill RUN`")


# Objects with any keys, and those with any values besides.
# Of a teacher's parts; earlier versions had none of them.
LATER = {"num_cut", "answers", "max_new_tokens"}
MAPS = ("counts", "skipped", "files", "components", "rows", "modes", "weights")
FREE = ("options", "augmentation", "identity", "settings")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of every value in a document whose type is known."""
    if path:
        yield path
    if isinstance(value, dict) and not (path and path[-1] in FREE):
        for key, item in value.items():
            yield from places(item, (*path, key))
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from places(item, (*path, at))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(document: bytes, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> bytes:
    """Returns a document after `change(parent, key)`."""
    values = json.loads(document)
    change(at(values, path[:-1]), path[-1])
    return json.dumps(values).encode()


def field_of(path: tuple[Any, ...]) -> str:
    """Returns the last name in a path, but for keys of maps, which `msgspec` doesn't name."""
    for end in range(len(path), 0, -1):
        if isinstance(path[end - 1], str) and not (end > 1 and path[end - 2] in MAPS):
            return str(path[end - 1])
    return ""


def wrong_types(value: Any) -> list[Any]:
    """Returns values of all other types, and of its own what no manifest has."""
    odd: list[Any] = [True, 1.5, "x", [None], {"x": None}]
    if isinstance(value, bool):
        odd.remove(True)
        odd.append(1)
    elif isinstance(value, int):
        odd += [-1, 10**30, str(value)]
    elif isinstance(value, float):
        odd.remove(1.5)
    elif isinstance(value, str):
        odd.remove("x")
        odd.append(1)
    return odd


def test_a_sound_one_is_read(kind: Kind, tmp_path: Path) -> None:
    assert kind.check(tmp_path, kind.document) == ""


def test_values_of_other_types_are_refused_by_name(kind: Kind, tmp_path: Path) -> None:
    whole = json.loads(kind.document)
    for path in places(whole):
        if path[-1] in FREE:
            continue
        for odd in wrong_types(at(whole, path)):
            # How long was trained and which base model it was is only shown or compared.
            if odd is None and path[-1] in LATER:
                continue
            if odd in (-1, 10**30) and {"trained", "base_model"} & set(path):
                continue
            data = changed(
                kind.document, path, lambda parent, key, odd=odd: parent.__setitem__(key, odd)
            )
            kind.check(tmp_path, data, refused=True, named=field_of(path))


def test_missing_and_unknown_fields_are_refused_by_name(kind: Kind, tmp_path: Path) -> None:
    for path in places(json.loads(kind.document)):
        parent = path[-2] if len(path) > 1 else ""
        if not isinstance(path[-1], str) or parent in MAPS:
            continue
        gone = changed(kind.document, path, lambda parent, key: parent.__delitem__(key))
        if path[-1] in LATER:
            kind.check(tmp_path, gone, refused=False)
        else:
            kind.check(tmp_path, gone, refused=True, named=path[-1])
        more = changed(kind.document, path, lambda parent, key: parent.update(surprise=1))
        kind.check(tmp_path, more, refused=True, named="surprise")


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        DEEP,
        b"9" * 10_000,
        b'{"format": NaN}',
        b'{"format": "\\ud800"}',
        b'{"\xff": 1}',
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_manifest_at_all_is_refused(kind: Kind, tmp_path: Path, data: bytes) -> None:
    kind.check(tmp_path, data, refused=True)


@pytest.mark.parametrize("odd", [b'"\xff"', DEEP, b"9" * 10_000, b"NaN", b"1e999", b'"\\ud800"'])
def test_such_values_are_refused_wherever_they_stand(
    kind: Kind, tmp_path: Path, odd: bytes
) -> None:
    for path in places(json.loads(kind.document)):
        marked = changed(
            kind.document, path, lambda parent, key: parent.__setitem__(key, "ODD VALUE")
        )
        kind.check(tmp_path, marked.replace(b'"ODD VALUE"', odd), refused=True)


def test_other_versions_are_refused_by_number(kind: Kind, tmp_path: Path) -> None:
    for version in (0, 99, -1, "1", None, 1.0, [1], {}):
        data = changed(kind.document, ("version",), lambda parent, key: None)
        values = json.loads(data) | {"version": version}
        kind.check(tmp_path, json.dumps(values).encode(), refused=True, named=repr(version))


def test_a_manifest_cut_off_anywhere_is_refused(kind: Kind, tmp_path: Path) -> None:
    whole = kind.document.rstrip()
    for length in range(0, len(whole), 7):
        kind.check(tmp_path, whole[:length], refused=True)


@given(st.data())
def test_changed_bytes_are_never_another_error(
    kind: Kind, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(kind.document)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position : position + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=2)
        )
    kind.check(tmp_path_factory.mktemp("changed"), bytes(damaged))


def test_an_absent_one_names_the_command_that_makes_it(kind: Kind, tmp_path: Path) -> None:
    if kind.name == "manifest.json" and kind.read == CheckpointManifest.load:
        assert kind.read(str(tmp_path)) is None
        return
    (tmp_path / kind.name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(kind.error, match=rf"{kind.name}: no such file; {kind.remedy} first"):
        kind.read(str(tmp_path))


def test_a_directory_in_its_place_is_an_error_of_the_file(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / kind.name).mkdir()
    with pytest.raises(PolypragError, match=kind.name):
        kind.read(str(tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path, value: float) -> None:
    """It could not be read back, and with it nothing that the manifest names."""
    CHECKPOINT.save(str(tmp_path))
    wrong = [
        (structs.replace(CHECKPOINT, identity={"x": {"y": [1.0, value]}}), r"identity\.x\.y\[1\]"),
        (
            structs.replace(CHECKPOINT, rows={3: structs.replace(ROWS, mean_norm=value)}),
            "mean_norm",
        ),
    ]
    for manifest, field in wrong:
        with pytest.raises(RunError, match=rf"manifest\.json: isn't written.*{field}"):
            manifest.save(str(tmp_path))
        assert CheckpointManifest.load(str(tmp_path)) == CHECKPOINT

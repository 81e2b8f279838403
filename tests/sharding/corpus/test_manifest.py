import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from sharding.corpus.manifest import CorpusManifest, Partition
from sharding.errors import CorpusError
from sharding.storage.files import list_names


def partition(index: int, first_id: int, num_passages: int) -> Partition:
    sha256 = f"{index:x}".zfill(12) + "0" * 52
    name = f"part-{index:05d}-{sha256[:12]}.tar"
    return Partition(index, first_id, num_passages, name, 10240, sha256, True, {"qa": 3})


MANIFEST = CorpusManifest(
    source=["a.jsonl"],
    source_sha256=["0" * 64],
    num_passages=5,
    partition_size=2,
    partitions=(partition(0, 0, 2), partition(1, 2, 2), partition(2, 4, 1)),
    options={"chunk_words": 100, "fields": {"id": "_id"}},
    skipped={"empty text": 1},
    augmentation={"backend": "rules"},
    removed=[1, 4],
)


def test_a_manifest_survives_saving(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    assert CorpusManifest.load(tmp_path) == MANIFEST
    assert list_names(tmp_path) == ["manifest.json"]
    saved = json.loads((tmp_path / "manifest.json").read_text())
    assert saved["format"] == "polyprag-corpus"
    assert saved["version"] == 3


def test_a_manifest_is_json_in_lines_with_its_text_as_it_is(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, source=["a/\u00e9t\u00e9 \u2028.jsonl", 'b"\\\t'], skipped={})
    manifest.save(tmp_path)
    expected = json.dumps(msgspec.to_builtins(manifest), ensure_ascii=False, indent=1) + "\n"
    assert (tmp_path / "manifest.json").read_text(encoding="utf-8") == expected
    assert CorpusManifest.load(tmp_path) == manifest


def test_a_missing_manifest_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"manifest\.json: no such file; run `polyprag prepare`"):
        CorpusManifest.load(tmp_path)


def test_a_manifest_of_version_2_is_read_as_one_without_removed_passages(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_text())
    del values["removed"]
    (tmp_path / "manifest.json").write_text(json.dumps(values | {"version": 2}))
    assert CorpusManifest.load(tmp_path) == replace(MANIFEST, removed=[])


def test_removed_passages_are_told_by_partition() -> None:
    assert [MANIFEST.removed_in(each) for each in MANIFEST.partitions] == [[1], [], [4]]


def part(position: int, /, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: values["partitions"][position].update(changes)


def top(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: values.update(changes)


SHA = MANIFEST.partitions[0].sha256


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (top(format="other"), "format"),
        (top(version=1), "version 1 can't be read.*version 3; run `polyprag prepare` again"),
        (top(options=None), "options"),
        (top(num_passages=6), "num_passages"),
        (top(num_passages="5"), "num_passages"),
        (top(partition_size=0), "partition_size"),
        (top(source="a.jsonl"), "source"),
        (top(source=[1]), "source"),
        (top(source_sha256=[1]), "source_sha256"),
        (top(skipped={"x": -1}), "skipped"),
        (top(skipped=None), "skipped"),
        (top(augmentation=[]), "augmentation"),
        (top(partitions={}), "partitions"),
        (top(partitions=[1]), r"partitions\[0\]"),
        (top(extra=1), "extra"),
        (top(removed=None), "removed"),
        (top(removed=[1, 5]), "removed"),
        (top(removed=[-1]), "removed"),
        (top(removed=[1, 1]), "removed"),
        (top(removed=[4, 1]), "removed"),
        (top(removed=[True]), "removed"),
        (lambda values: values.pop("removed"), "removed"),
        (lambda values: values.pop("skipped"), "skipped"),
        (lambda values: values["partitions"].pop(1), r"partitions\[1\].index"),
        (lambda values: values["partitions"][1].pop("file"), r"partitions\[1\].*file"),
        (part(1, first_id=3), r"partitions\[1\].first_id"),
        (part(1, num_passages=3), r"partitions\[2\].first_id"),
        (part(1, num_passages=0), r"partitions\[1\].*num_passages"),
        (part(1, num_passages=True), r"partitions\[1\].*num_passages"),
        (part(1, index=2), r"partitions\[1\].*file"),
        (part(1, num_bytes=0), "num_bytes"),
        (part(1, augmented=1), "augmented"),
        (part(1, counts={"qa": 1.5}), "counts"),
        (part(1, sha256="0"), "sha256"),
        (part(1, sha256=SHA), "file"),
        (part(0, file="part-00000-0000000000zz.tar"), "file"),
        (part(0, file="../part-00000-000000000000.tar"), "file"),
        (part(0, file="pipe:cat part-00000-000000000000.tar"), "file"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    MANIFEST.save(tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_text())
    change(values)
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(CorpusError, match=rf"manifest\.json: .*{named}"):
        CorpusManifest.load(tmp_path)


@pytest.mark.parametrize("num_passages", [10**12, 10**30])
def test_ids_have_twelve_digits_at_most(num_passages: int) -> None:
    """Larger ones would overflow where the partitions behind them are read."""
    first, second, _ = MANIFEST.partitions
    huge = replace(first, num_passages=num_passages)
    then = replace(second, first_id=num_passages)
    manifest = replace(MANIFEST, partitions=(huge, then), num_passages=num_passages + 2)
    with pytest.raises(ValueError, match="num_passages must be at most"):
        manifest.check()


def test_no_two_partitions_share_a_file() -> None:
    same = replace(MANIFEST.partitions[1], file=MANIFEST.partitions[0].file)
    with pytest.raises(ValueError, match=r"partitions\[1\]\.file must be named for partition 1"):
        replace(MANIFEST, partitions=(MANIFEST.partitions[0], same, partition(2, 4, 1))).check()

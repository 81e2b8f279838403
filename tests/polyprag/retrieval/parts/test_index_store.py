"""An index behind a URL: built, searched, and its copies on this machine."""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polyprag.augment.corpus import augment_corpus, counts_of
from polyprag.config import Config, DataConfig, IndexConfig
from polyprag.errors import RunError
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.parts.local_copies import local_copy
from polyprag.retrieval.parts.part import IndexPart, StoredFile
from polyprag.retrieval.search import Index
from sharding.change.growth import append_passages
from sharding.change.removal import remove_passages
from sharding.storage.cache import LocalCache
from sharding.storage.files import (
    atomic_write,
    join,
    list_names,
    read_bytes,
    remove,
    sha256_of,
    upload,
)

MakeRun = Callable[[Path], Path]
AddEncoding = Callable[..., np.ndarray]


def config_of(cache: Path, **index: int) -> Config:
    return Config(data=DataConfig(cache_dir=str(cache)), index=IndexConfig(lsa_dims=16, **index))


@pytest.fixture
def remote_run(
    s3: str, tmp_path: Path, make_corpus_run: MakeRun, add_encoding: AddEncoding
) -> tuple[str, Path]:
    """A corpus and an encoding on S3, and the same on disk."""
    local = make_corpus_run(tmp_path / "run")
    add_encoding(local)
    for path in sorted(local.rglob("*")):
        if path.is_file():
            upload(path, join(s3, "run", path.relative_to(local).as_posix()))
    return join(s3, "run"), local


@pytest.mark.parametrize("method", ["bm25", "dense", "hybrid"])
def test_a_remote_index_finds_what_a_local_one_does(
    remote_run: tuple[str, Path], tmp_path: Path, method: str
) -> None:
    url, local = remote_run
    here, there = tmp_path / "here", tmp_path / "there"
    assert build_index(url, config_of(here)) == build_index(local, config_of(here))
    queries = ["a composer from Vienna", "Łódź painter"]
    for cache in (here, there):  # of the machine that built it, and of another one
        index = Index.open(url, cache_dir=str(cache))
        expected = Index.open(local).search(queries, k=5, method=method)
        for found, known in zip(index.search(queries, k=5, method=method), expected, strict=True):
            np.testing.assert_array_equal(found.ids, known.ids)
            np.testing.assert_array_equal(found.scores, known.scores)
            assert found.rows is not None and known.rows is not None
            np.testing.assert_array_equal(found.rows, known.rows)
            assert found.passages == known.passages


def test_building_again_makes_only_what_is_missing(
    remote_run: tuple[str, Path], tmp_path: Path
) -> None:
    url, _ = remote_run
    first = build_index(url, config_of(tmp_path / "one"))
    bm25 = join(url, "index", first.segments[0].parts["bm25"][0].directory)
    lost = next(name for name in list_names(bm25) if name != "component.json")
    remove(join(bm25, lost))
    kept = {name: sha256_of(join(bm25, name)) for name in list_names(bm25)}
    steps: list[int] = []
    again = build_index(url, config_of(tmp_path / "other"), steps.append)
    assert sum(steps) == 40
    assert again == first
    assert kept.items() <= {name: sha256_of(join(bm25, name)) for name in list_names(bm25)}.items()
    assert lost in list_names(bm25)


def test_parts_of_an_earlier_index_go(remote_run: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = remote_run
    first = build_index(url, config_of(tmp_path / "cache"))
    second = build_index(url, config_of(tmp_path / "cache", bm25_title_weight=3))
    assert (
        first.segments[0].parts["bm25"][0].directory
        != second.segments[0].parts["bm25"][0].directory
    )
    kept = {part.directory for part in second.parts}
    assert set(list_names(join(url, "index"))) == {*kept, "manifest.json"}


def test_a_damaged_copy_is_fetched_again_and_a_damaged_part_is_named(
    remote_run: tuple[str, Path], tmp_path: Path
) -> None:
    url, _ = remote_run
    manifest = build_index(url, config_of(tmp_path / "cache"))
    for path in (tmp_path / "cache" / "index").rglob("text.bin"):
        path.write_bytes(path.read_bytes()[:-1])
    index = Index.open(url, cache_dir=str(tmp_path / "cache"))
    assert index.passage(39).title == "Jara 39"

    part = join(url, "index", manifest.segments[0].parts["passages"][0].directory, "text.bin")
    data = read_bytes(part)
    with atomic_write(part) as file:
        file.write(data[:-1] + b"?")
    Index.open(url, cache_dir=str(tmp_path / "cache"))  # its copy is sound
    with pytest.raises(RunError, match=r"s3://.*text\.bin: SHA-256 differs"):
        Index.open(url, cache_dir=str(tmp_path / "another"))
    remove(part)
    with pytest.raises(RunError, match=r"s3://.*text\.bin: no such file"):
        Index.open(url, cache_dir=str(tmp_path / "another"))


def test_an_index_of_another_corpus_is_refused(
    remote_run: tuple[str, Path], tmp_path: Path
) -> None:
    url, _ = remote_run
    build_index(url, config_of(tmp_path / "cache"))
    augment_corpus(url, config_of(tmp_path / "cache"))
    with pytest.raises(RunError, match="has changed since"):
        Index.open(url, cache_dir=str(tmp_path / "cache"))


def test_a_remote_index_grows_and_forgets(
    remote_run: tuple[str, Path], tmp_path: Path, add_encoding: AddEncoding
) -> None:
    url, local = remote_run
    config, cache = config_of(tmp_path / "cache"), tmp_path / "cache" / "index"
    first = build_index(url, config)
    source = tmp_path / "more.jsonl"
    source.write_text('{"id": "new", "title": "Zinnia", "text": "Zinnia was a botanist in Oslo."}')
    remove(join(url, "encoding", "manifest.json"))
    for run in (url, local):
        append_passages(join(run, "corpus"), [str(source)])
    add_encoding(local)
    for path in sorted((local / "encoding").rglob("*")):
        if path.is_file():
            upload(path, join(url, path.relative_to(local).as_posix()))
    second = build_index(url, config)
    assert second.segments[0] == first.segments[0]
    index = Index.open(url, cache_dir=str(tmp_path / "cache"))
    for method in ("bm25", "hybrid"):
        hits = index.search(["Zinnia the botanist"], k=1, method=method)[0]
        assert [passage.key for passage in hits.passages] == ["new"]
    del index, hits
    gc.collect()  # which lets go of the copies

    remove_passages(join(url, "corpus"), [40], count=counts_of)
    third = build_index(url, config)
    assert third.segments[0] == first.segments[0]
    kept = {part.directory for part in third.parts}
    assert set(list_names(join(url, "index"))) == {*kept, "manifest.json"}
    index = Index.open(url, cache_dir=str(tmp_path / "cache"))
    assert index.search(["Zinnia the botanist"], k=1)[0].ids.tolist() == []
    for path in cache.rglob("*"):  # nor on the machine that built it
        assert not path.is_file() or b"Zinnia" not in path.read_bytes()


def uploaded_part(url: str, letter: str) -> IndexPart:
    """A part of one file of 100 bytes, behind a URL."""
    with atomic_write(join(url, letter, "data.bin")) as file:
        file.write(letter.encode() * 100)
    sha256 = sha256_of(join(url, letter, "data.bin"))
    return IndexPart(f"rows-{ord(letter):012x}", {"data.bin": StoredFile(100, sha256)})


def test_unused_copies_go_and_used_ones_stay(tmp_path: Path) -> None:
    url = f"memory://copies/{tmp_path.name}"
    parts = {letter: uploaded_part(url, letter) for letter in "abcd"}
    using, other = (LocalCache(tmp_path / "copies", max_bytes=150) for _ in range(2))
    first = local_copy(using, join(url, "a"), parts["a"])
    second = local_copy(using, join(url, "b"), parts["b"])
    third = local_copy(other, join(url, "c"), parts["c"])
    assert first.is_dir() and second.is_dir()  # more than the bound, and all in use
    del using
    fourth = local_copy(other, join(url, "d"), parts["d"])
    assert not first.exists() and not second.exists()
    assert (third / "data.bin").read_bytes() == b"c" * 100
    assert (fourth / "data.bin").read_bytes() == b"d" * 100


def test_a_copy_serves_without_the_storage(tmp_path: Path) -> None:
    url = f"memory://copies/{tmp_path.name}"
    part = uploaded_part(url, "a")
    local_copy(LocalCache(tmp_path / "copies", max_bytes=1000), join(url, "a"), part)
    remove(join(url, "a", "data.bin"))
    again = local_copy(LocalCache(tmp_path / "copies", max_bytes=1000), join(url, "a"), part)
    assert (again / "data.bin").read_bytes() == b"a" * 100
    shutil.rmtree(tmp_path / "copies")
    (tmp_path / "copies").write_text("")
    with pytest.raises(RunError, match=r"data\.cache_dir"):
        local_copy(LocalCache(tmp_path / "copies", max_bytes=1000), join(url, "a"), part)

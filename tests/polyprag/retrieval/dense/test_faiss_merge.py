"""Inverted files that were filled apart and joined are those that were filled at once."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from polyprag.errors import RunError
from polyprag.retrieval.dense import faiss_merge
from polyprag.retrieval.dense.faiss_factory import empty_index, inverted_file
from polyprag.retrieval.dense.faiss_merge import (
    is_joined_on_disk,
    join_on_disk,
    pack_codes,
    plain_twin,
)

DIMS, COUNT = 16, 3000
ON_DISK = (
    *("IVF8,Flat", "IVF8,SQfp16", "IVF8,SQ8", "IVF64_HNSW8,Flat"),
    *("PCA8,IVF8,PQ4", "OPQ4_8,IVF8,PQ4x4"),
)
FAST_SCAN = (
    *("IVF8,PQ4x4fs", "OPQ4_8,IVF8,PQ4x4fs", "OPQ8_16,IVF8,PQ8x4fsr"),
    "IVF64_HNSW8,PQ8x4fsr",
)


def vectors(seed: int, count: int = COUNT) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, DIMS), dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def filled_apart(directory: Path, factory: str) -> tuple[object, object, list[Path]]:
    """An index filled at once, the trained one without vectors, and files of three parts of it."""
    whole = empty_index(DIMS, factory)
    whole.train(vectors(0))
    faiss.write_index(whole, str(directory / "trained.faiss"))
    trained = faiss.read_index(str(directory / "trained.faiss"))
    given, ids = vectors(0), np.arange(COUNT) * 2 + 5
    whole.add_with_ids(given, ids)
    paths = []
    for number, chunk in enumerate(np.array_split(np.arange(COUNT), 3)):
        part = faiss.read_index(str(directory / "trained.faiss"))
        part.add_with_ids(given[chunk], ids[chunk])
        paths.append(directory / f"part-{number}.faiss")
        faiss.write_index(part, str(paths[-1]))
    return whole, trained, paths


def check_alike(path: Path, whole: object, *, flags: int) -> None:
    joined = faiss.read_index(str(path), flags)
    assert joined.ntotal == COUNT
    for index in (joined, whole):
        inverted_file(index).nprobe = 4
    scores, ids = joined.search(vectors(1, 50), 10)
    expected, expected_ids = whole.search(vectors(1, 50), 10)  # type: ignore[attr-defined]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert np.mean(ids == expected_ids) > 0.97  # equal scores come in any order


@pytest.mark.parametrize("factory", ON_DISK)
def test_joined_on_disk(tmp_path: Path, factory: str) -> None:
    whole, trained, paths = filled_apart(tmp_path, factory)
    assert is_joined_on_disk(trained)
    join_on_disk(tmp_path / "joined.faiss", trained, paths)
    for flags in (0, faiss.IO_FLAG_MMAP, faiss.IO_FLAG_MMAP_IFC):
        check_alike(tmp_path / "joined.faiss", whole, flags=flags)
    assert trained.ntotal == 0  # type: ignore[attr-defined]
    # Byte for byte what FAISS itself writes of the index that was filled at once.
    inverted_file(whole).nprobe = 1
    faiss.write_index(whole, str(tmp_path / "whole.faiss"))
    assert (tmp_path / "joined.faiss").read_bytes() == (tmp_path / "whole.faiss").read_bytes()


@pytest.mark.parametrize("factory", FAST_SCAN)
def test_fast_scan_is_joined_as_its_twin(tmp_path: Path, factory: str) -> None:
    twin = plain_twin(DIMS, factory)
    assert twin is not None
    twin.train(vectors(0))
    faiss.write_index(twin, str(tmp_path / "trained.faiss"))
    paths = []
    for number, chunk in enumerate(np.array_split(np.arange(COUNT), 7)):
        part = faiss.read_index(str(tmp_path / "trained.faiss"))
        part.add_with_ids(vectors(0)[chunk], chunk)
        paths.append(tmp_path / f"part-{number}.faiss")
        faiss.write_index(part, str(paths[-1]))
    join_on_disk(tmp_path / "joined.faiss", twin, paths)
    pack_codes(tmp_path / "joined.faiss")
    whole = empty_index(DIMS, factory)
    whole.train(vectors(0))
    whole.add(vectors(0))
    assert type(inverted_file(whole)) is faiss.IndexIVFPQFastScan
    check_alike(tmp_path / "joined.faiss", whole, flags=faiss.IO_FLAG_MMAP_IFC)
    assert sorted(path.name for path in tmp_path.glob("joined*")) == ["joined.faiss"]


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat", "PQ4x4fs", "HNSW8,Flat"])
def test_only_fast_scan_has_a_twin(factory: str) -> None:
    assert plain_twin(DIMS, factory) is None


@pytest.mark.parametrize("factory", ["Flat", "HNSW8,Flat", "SQ8", "IVF8,PQ4,RFlat", "PQ4"])
def test_what_can_not_be_joined_is_known(factory: str) -> None:
    assert not is_joined_on_disk(empty_index(DIMS, factory))


def test_another_file_format_is_refused_and_not_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, trained, paths = filled_apart(tmp_path, "IVF8,Flat")
    monkeypatch.setattr(faiss_merge, "_BLOCK", b"else")
    with pytest.raises(RunError, match="installed FAISS"):
        join_on_disk(tmp_path / "joined.faiss", trained, paths)
    assert not (tmp_path / "joined.faiss").exists()

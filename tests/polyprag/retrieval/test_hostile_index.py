"""An index from a stranger, whose checksums are right and whose numbers aren't."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from polyprag.config import Config, IndexConfig
from polyprag.errors import PolypragError, RunError
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.lexical import bm25
from polyprag.retrieval.search import Index
from polyprag.verify.index import verify_index
from sharding.shown_progress import show_nothing

QUERY = "Ada Lovelace was born in London and worked as a teacher or a painter"
Write = Callable[[str, str, Callable[[Path], Any]], Path]


@pytest.fixture
def write(indexed_run: tuple[Path, np.ndarray], tmp_path: Path) -> Write:
    """Changes a file of a copy of an index and makes all checksums right again."""
    run = tmp_path / "run"
    shutil.copytree(indexed_run[0], run)

    def change(part: str, file: str, how: Callable[[Path], Any]) -> Path:
        (directory,) = (run / "index").glob(f"{part}-*")
        path = directory / file
        how(path)
        sign(run, directory)
        return run

    return change


def sign(run: Path, directory: Path) -> None:
    """Makes a part's summary and the manifest say what its files are now."""
    summary = json.loads((directory / "component.json").read_text())
    for name in summary["files"]:
        path = directory / name
        if path.is_file():
            data = path.read_bytes()
            stored = {"num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            summary["files"][name] = stored
    (directory / "component.json").write_text(json.dumps(summary))
    manifest = json.loads((run / "index" / "manifest.json").read_text())
    for segment in manifest["segments"]:
        for divided in segment["components"].values():
            divided[:] = [
                summary if each["directory"] == directory.name else each for each in divided
            ]
    (run / "index" / "manifest.json").write_text(json.dumps(manifest))


def numbers(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Returns what rewrites a .npy file."""
    return lambda path: np.save(path, change(np.load(path)))


def at_end(array: np.ndarray, value: Any) -> np.ndarray:
    array.reshape(-1)[-1] = value
    return array


def use(run: Path, *, method: str = "bm25") -> None:
    found = Index.open(run).search([QUERY], k=40, method=method)
    for hits in found:
        assert hits.rows is None or np.isfinite(hits.rows).all()
        assert np.isfinite(hits.scores).all() and len(list(hits.passages)) == len(hits.ids)


@pytest.mark.parametrize("beyond", [2_048, 1_000_000])
def test_a_bm25_index_that_names_passages_beyond_its_end_ends_in_an_error(
    write: Write, beyond: int
) -> None:
    run = write("bm25", "indices.csc.index.npy", numbers(lambda a: a + np.int32(beyond)))
    # In a process of its own: without a check it writes there, and dies.
    code = (
        "import sys\n"
        "from polyprag.errors import RunError\n"
        "from polyprag.retrieval.lexical import bm25\n"
        "from polyprag.retrieval.search import Index\n"
        "bm25.SMALL_FILE = int(sys.argv[2])\n"
        "try:\n"
        f"    Index.open(sys.argv[1]).search([{QUERY!r}], k=3)\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    for small in ("0", "16777216"):  # large files are looked at where they are searched
        done = subprocess.run(
            [sys.executable, "-c", code, str(run), small], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "bm25-" in done.stdout and "run `polyprag index RUN` again" in done.stdout


@pytest.mark.parametrize("small", [0, 1 << 24], ids=["searched", "opened"])
@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("indices", lambda a: a - np.int32(1 << 20)),
        ("indices", lambda a: at_end(a, 40)),  # of 40 passages, the last is 39
        ("indices", lambda a: a.astype(np.int64)),
        ("indices", lambda a: a.astype(np.float32)),
        ("indices", lambda a: a[:-1]),
        ("indptr", lambda a: a + 1),
        ("indptr", lambda a: at_end(a, 1 << 40)),
        ("indptr", lambda a: np.concatenate([[0], a[-2:0:-1], a[-1:]])),
        ("indptr", lambda a: a * 0 - 5),
        ("indptr", lambda a: a.astype(np.float64)),
        ("indptr", lambda a: a[:-1]),
        ("data", lambda a: a * np.float32(np.inf)),
        ("data", lambda a: a.astype(np.float64)),
        ("data", lambda a: a.reshape(1, -1)),
    ],
)
def test_damaged_bm25_arrays_are_refused(
    write: Write, file: str, change: Any, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bm25, "SMALL_FILE", small)
    run = write("bm25", f"{file}.csc.index.npy", numbers(change))
    index = Index.open(run)
    every = [chr(ord("a") + i) for i in range(26)]
    words = " ".join(p.text + " " + p.title for p in (index.passage(i) for i in range(40)))
    with pytest.raises(RunError, match="run `polyprag index RUN` again"):
        index.search([words, *every], k=40)


@pytest.mark.parametrize(
    ("part", "file", "change"),
    [
        ("bm25", "hashes.npy", lambda a: a[::-1].copy()),
        ("passages", "offsets.npy", lambda a: a.astype(np.float64) + 0.5),
        ("passages", "offsets.npy", lambda a: np.concatenate([a[:-1] - 7, a[-1:]])),
        ("passages", "offsets.npy", lambda a: np.concatenate([a[::-1][:-1], a[-1:]])),
        ("passages", "offsets.npy", lambda a: np.concatenate([a[:-1] * 10**6, a[-1:]])),
        ("passages", "hashed-ids.npy", lambda a: a.astype(np.int32)),
        ("rows", "rows.npy", lambda a: a * np.float16(np.nan)),
        ("rows", "rows.npy", lambda a: a.astype(np.float32)),
        ("rows", "rows.npy", lambda a: a[:, :0]),
        ("rows", "rows.npy", lambda a: np.asfortranarray(a)),
    ],
)
def test_damaged_arrays_of_passages_and_rows_are_refused(
    write: Write, part: str, file: str, change: Any
) -> None:
    run = write(part, file, numbers(change))
    with pytest.raises(RunError, match=r"polyprag index RUN"):
        use(run)


def test_ids_by_text_that_lead_out_of_the_index_are_refused(write: Write) -> None:
    run = write("passages", "hashed-ids.npy", numbers(lambda a: a + 10**6))
    index = Index.open(run)
    passage = index.passage(3)
    with pytest.raises(RunError, match="isn't in the index"):
        index.find(passage.title, passage.text)


@pytest.mark.parametrize(
    ("part", "file", "change"),
    [
        ("embeddings", "vectors.npy", lambda a: a.astype(np.float32)),
        ("embeddings", "vectors.npy", lambda a: a[:, :-1].copy()),
        ("embeddings", "vectors.npy", lambda a: a[:-1]),
    ],
)
def test_damaged_vectors_are_refused(write: Write, part: str, file: str, change: Any) -> None:
    run = write(part, file, numbers(change))
    with pytest.raises(RunError, match="polyprag index RUN"):
        use(run, method="dense")


def test_vectors_that_are_no_numbers_are_refused_where_they_are_used(write: Write) -> None:
    run = write("embeddings", "vectors.npy", numbers(lambda a: a * np.float16(np.nan)))
    with pytest.raises(RunError, match="isn't of finite numbers"):
        use(run, method="hybrid")


HEADER = "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }"


@pytest.mark.parametrize(
    "header",
    [
        "(" * 4000,
        HEADER.replace("(3,)", "(" * 200 + "3" + ")" * 200),
        HEADER.replace("(3,)", "(-3,)"),
        HEADER.replace("(3,)", "(99999999999999999,)"),
        HEADER.replace("'<i8'", "'|O'"),
        HEADER.replace("'<i8'", "[('a', '<i8')]"),
        HEADER.replace("'<i8'", "'<i9'"),
        HEADER.replace("False", "__import__('os')"),
        "",
    ],
)
def test_a_header_of_an_array_is_read_and_not_evaluated(write: Write, header: str) -> None:
    padded = header.ljust(64 * (-(-(len(header) + 11) // 64)) - 11) + "\n"
    data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(padded)) + padded.encode() + bytes(24)
    run = write("bm25", "indptr.csc.index.npy", lambda path: path.write_bytes(data))
    with pytest.raises(RunError, match="not a readable BM25 index"):
        use(run)


@pytest.mark.parametrize(
    ("part", "file", "method"),
    [
        ("bm25", "indices.csc.index.npy", "bm25"),
        ("bm25", "settings.json", "bm25"),
        ("rows", "rows.npy", "bm25"),
        ("passages", "text.bin", "bm25"),
        ("dense", "vectors.faiss", "dense"),
        ("dense", "positions.npy", "dense"),
        ("encoder", "encoder.json", "dense"),
        ("encoder", "lsa.safetensors", "dense"),
    ],
)
def test_a_pipe_in_a_files_place_is_an_error_and_waited_for_by_nobody(
    write: Write, part: str, file: str, method: str
) -> None:
    def pipe(path: Path) -> None:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        # A stranger's summary needn't name the file at all.
        summary = json.loads((path.parent / "component.json").read_text())
        summary["files"].pop(file, None)
        (path.parent / "component.json").write_text(json.dumps(summary))

    run = write(part, file, pipe)
    with pytest.raises(PolypragError, match="a pipe, not a file"):
        use(run, method=method)


@pytest.fixture(scope="module")
def many_vectors(
    tmp_path_factory: pytest.TempPathFactory, make_corpus_run: Callable[..., Path]
) -> Iterator[Callable[[str], Path]]:
    """Builds the same run's index with a factory string; 40 passages."""
    directory = tmp_path_factory.mktemp("kinds")
    corpus = make_corpus_run(directory / "run")

    def build(factory: str) -> Path:
        run = directory / factory.replace(",", "-")
        if not run.exists():
            shutil.copytree(corpus, run)
            settings = IndexConfig(lsa_dims=16, lsa_sketch=0.5, factory=factory)
            build_index(run, Config(index=settings))
        return run

    yield build


def changed_faiss(run: Path, tmp_path: Path, change: Callable[[Any], None]) -> Path:
    """Returns a copy of a run whose FAISS index was changed in memory and written again."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (directory,) = (copy / "index").glob("dense-*")
    index = faiss.read_index(str(directory / "vectors.faiss"))
    change(index)
    faiss.write_index(index, str(directory / "vectors.faiss"))
    sign(copy, directory)
    return copy


def set_ids(value: int) -> Callable[[Any], None]:
    def change(index: Any) -> None:
        lists = faiss.extract_index_ivf(index).invlists
        for number in range(lists.nlist):
            size = lists.list_size(number)
            ids = np.full(size, value, np.int64)
            codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size).copy()
            lists.update_entries(number, 0, size, faiss.swig_ptr(ids), faiss.swig_ptr(codes))

    return change


def set_neighbours(value: int) -> Callable[[Any], None]:
    def change(index: Any) -> None:
        graph = faiss.downcast_index(index).hnsw
        neighbours = faiss.vector_to_array(graph.neighbors)
        neighbours[neighbours >= 0] = value
        faiss.copy_array_to_vector(neighbours, graph.neighbors)

    return change


def set_entry(value: int) -> Callable[[Any], None]:
    def change(index: Any) -> None:
        faiss.downcast_index(index).hnsw.entry_point = value

    return change


@pytest.mark.parametrize(
    ("factory", "change"),
    [
        ("IVF2,Flat", set_ids(40)),
        ("IVF2,Flat", set_ids(1 << 40)),
        ("IVF2,PQ4x4", set_ids(10**6)),
        ("HNSW8,Flat", set_neighbours(40)),
        ("HNSW8,Flat", set_neighbours(1 << 30)),
        ("HNSW8,Flat", set_entry(10**6)),
    ],
)
def test_damaged_faiss_indexes_end_in_an_error(
    many_vectors: Callable[[str], Path], tmp_path: Path, factory: str, change: Callable[[Any], None]
) -> None:
    run = changed_faiss(many_vectors(factory), tmp_path, change)
    code = (
        "import sys\n"
        "from polyprag.errors import RunError\n"
        "from polyprag.retrieval.search import Index\n"
        "try:\n"
        f"    Index.open(sys.argv[1]).search([{QUERY!r}], k=10, method='dense')\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "vectors.faiss" in done.stdout and "polyprag index RUN" in done.stdout


def test_lists_in_another_file_are_refused(
    many_vectors: Callable[[str], Path], tmp_path: Path
) -> None:
    lists = tmp_path / "lists"

    def move(index: Any) -> None:
        ivf = faiss.extract_index_ivf(index)
        on_disk = faiss.OnDiskInvertedLists(ivf.nlist, ivf.code_size, str(lists))
        on_disk.merge_from_1(ivf.invlists)
        ivf.replace_invlists(on_disk, False)
        on_disk.this.disown()

    run = changed_faiss(many_vectors("IVF2,Flat"), tmp_path, move)
    with pytest.raises(RunError, match="in another file"):
        use(run, method="dense")


def test_a_sound_index_of_each_kind_is_searched(many_vectors: Callable[[str], Path]) -> None:
    for factory in ("IVF2,Flat", "IVF2,PQ4x4", "HNSW8,Flat"):
        use(many_vectors(factory), method="dense")


def test_verify_says_what_is_wrong_with_such_an_index(write: Write) -> None:
    run = write("bm25", "indices.csc.index.npy", numbers(lambda a: a + np.int32(2_048)))
    problems, _ = verify_index(str(run), corpus=None, sound=(), quick=False, show=show_nothing)
    assert any("bm25-" in problem.message for problem in problems)

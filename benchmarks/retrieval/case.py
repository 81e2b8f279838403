"""One case of retrieval.py in a process of its own; prints its result as JSON.

python -m retrieval.case NAME DIRECTORY KEY=VALUE...
"""

import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from polyprag.config import IndexConfig, RetrievalConfig
from polyprag.retrieval.building.dense import DenseBuild
from polyprag.retrieval.building.groups import Group
from polyprag.retrieval.building.part_maker import IndexLocation, PartMaker, keep_or_make
from polyprag.retrieval.building.progress import BuildProgress
from polyprag.retrieval.dense.embeddings import Embeddings
from polyprag.retrieval.dense.faiss_factory import empty_index, factory_for, inverted_file, is_lossy
from polyprag.retrieval.dense.faiss_index import VectorIndex
from polyprag.retrieval.dense.search import DenseIndex, DenseSegment
from polyprag.retrieval.freshness import Freshness
from polyprag.retrieval.parts.index_store import LocalIndexStore
from polyprag.retrieval.parts.manifest import IndexManifest, Segment
from polyprag.retrieval.parts.part import IndexPart, whole_part
from polyprag.retrieval.parts.passages import write_passages
from polyprag.retrieval.parts.serving_rows import write_rows
from polyprag.retrieval.parts.span import OpenSegment, Span
from polyprag.retrieval.search import Index
from retrieval.vectors import DIMS, chunks, queries_near
from sharding.corpus.manifest import Partition
from sharding.corpus.passages import Passage
from sharding.task_pool import InlinePool

QUERIES, EXACT = "queries.npy", "exact.npy"
DEPTH = 100
CUTOFFS = (1, 3, 10, 100)
ROW = (16, 20)  # sites and experts: 320 numbers
ROUNDS = 15
NOBODY = np.zeros(0, np.int64)


def store_in(directory: Path) -> LocalIndexStore:
    """The index that polyprag builds."""
    return LocalIndexStore(directory / "run" / "index")


def groups_in(directory: Path) -> list[Group]:
    """A group for each chunk of vectors."""
    sizes = json.loads((directory / "sizes.json").read_text())
    groups, first = [], 0
    for index, size in enumerate(sizes):
        partition = Partition(index, first, size, f"part-{index}.tar", 1, "0" * 64, False, {})
        groups.append(Group((partition,)))
        first += size
    return groups


def embeddings_in(directory: Path) -> list[IndexPart]:
    """The embeddings of each group."""
    names = json.loads((directory / "embeddings.json").read_text())
    found = [whole_part(directory / "run" / "index" / name) for name in names]
    return [part for part in found if part is not None]


def opened_embeddings(directory: Path, size: int) -> Embeddings:
    """The embeddings, mapped."""
    store = store_in(directory)
    local = [store.local(part) for part in embeddings_in(directory)]
    return Embeddings.open(local, num_passages=size)


class AnonymousMemory:
    """Watches the anonymous memory of this process, the kind that only swapping can free."""

    def __init__(self) -> None:
        self._peak_kib = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            status = Path("/proc/self/status").read_text()
            now = int(status.split("RssAnon:", 1)[1].split(None, 1)[0])
            self._peak_kib = max(self._peak_kib, now)

    def peak_mib(self) -> float:
        """The most that was seen; ends the watching."""
        self._ended.set()
        self._thread.join()
        return self._peak_kib / 1024


def vectors(directory: Path, *, size: int, queries: int) -> dict[str, Any]:
    """Writes embeddings, queries and what exact search finds for them."""
    (directory / "run" / "index").mkdir(parents=True)
    store = store_in(directory)
    sizes, names = [], []
    for number, chunk in enumerate(chunks(size)):

        def write(path: Path, chunk: npt.NDArray[np.float16] = chunk) -> None:
            np.save(path / "vectors.npy", chunk)

        part = keep_or_make(store, "embeddings", made_from={"n": number}, write=write)
        sizes.append(len(chunk))
        names.append(part.directory)
    (directory / "sizes.json").write_text(json.dumps(sizes))
    (directory / "embeddings.json").write_text(json.dumps(names))
    embeddings = opened_embeddings(directory, size)
    near = np.random.default_rng(4).choice(size, queries, replace=False)
    asked = queries_near(embeddings.take(near))
    np.save(directory / QUERIES, asked)
    best = faiss.ResultHeap(queries, DEPTH, keep_max=True)
    started = time.perf_counter()
    for group in groups_in(directory):
        first = group.span.first_id
        block = embeddings.take(np.arange(first, first + group.span.num_passages))
        scores, ids = faiss.knn(asked, block, min(DEPTH, len(block)), faiss.METRIC_INNER_PRODUCT)
        best.add_result(scores, ids + first)
    best.finalize()
    np.save(directory / EXACT, best.I)
    return {"seconds": time.perf_counter() - started, "queries": queries}


def build_polyprag(directory: Path, *, size: int) -> dict[str, Any]:
    """The index that the rule chooses, from the embeddings."""
    store, memory = store_in(directory), AnonymousMemory()
    started = time.perf_counter()
    location = IndexLocation(str(directory / "run"), None, 1.0)
    parts = PartMaker(store, location, BuildProgress(None, parts=1))
    build = DenseBuild(parts, IndexConfig(), InlinePool())
    made = build.indexes(
        groups_in(directory), embeddings_in(directory), removed=NOBODY, is_base=True
    )
    seconds = time.perf_counter() - started
    names = [part.directory for part in made]
    (directory / "dense.json").write_text(json.dumps(names))
    size_of = sum(file.num_bytes for part in made for file in part.files.values())
    return {
        "seconds": seconds,
        "peak_mib": memory.peak_mib(),
        "file_mib": size_of / 2**20,
        "factory": factory_for(size, DIMS),
    }


def build_faiss(directory: Path, *, size: int) -> dict[str, Any]:
    """The same kind of index by FAISS alone, everything in memory.

    Where hits must be scored again FAISS does it, too: by fp16 vectors that it keeps (Refine).
    """
    factory = factory_for(size, DIMS)
    if is_lossy(empty_index(DIMS, factory)):
        factory += ",Refine(SQfp16)"
    given, memory = opened_embeddings(directory, size), AnonymousMemory()
    started = time.perf_counter()
    whole = given.take(np.arange(size))
    index = faiss.index_factory(DIMS, factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        ivf = inverted_file(index)
        wanted = min(size, max(65_536, 64 * (ivf.nlist if ivf is not None else 0)))
        index.train(whole[np.linspace(0, size - 1, wanted).round().astype(np.int64)])
    index.add(whole)
    faiss.write_index(index, str(directory / "plain.faiss"))
    return {
        "seconds": time.perf_counter() - started,
        "peak_mib": memory.peak_mib(),
        "file_mib": (directory / "plain.faiss").stat().st_size / 2**20,
        "factory": factory,
    }


def searched(
    directory: Path, search: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]
) -> dict[str, Any]:
    """Rates and recalls of a search for the best DEPTH."""
    asked, exact = np.load(directory / QUERIES), np.load(directory / EXACT)
    found = search(asked)
    whole, single = [], []
    for _ in range(5):
        started = time.perf_counter()
        search(asked)
        whole.append(len(asked) / (time.perf_counter() - started))
    for i in range(min(100, len(asked))):
        started = time.perf_counter()
        search(asked[i : i + 1])
        single.append(1000 * (time.perf_counter() - started))
    recalls = {
        f"recall@{k}": float(
            np.mean([len(set(a[:k]) & set(b[:k])) / k for a, b in zip(found, exact, strict=True)])
        )
        for k in CUTOFFS
    }
    return {
        "queries_per_s": statistics.median(whole),
        "ms_for_one": statistics.median(single),
        **recalls,
    }


class NoEncoder:
    """Vectors are given here; see `polyprag.retrieval.encoders.interface.Encoder`."""

    dims = DIMS
    cut: Sequence[int] = ()

    def encode_passages(self, titled_texts: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Isn't asked."""
        raise NotImplementedError

    def encode_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Isn't asked."""
        raise NotImplementedError


def dense_index(directory: Path, size: int) -> DenseIndex:
    """What polyprag built, opened without an encoder."""
    names = json.loads((directory / "dense.json").read_text())
    parts = [
        VectorIndex.open(
            directory / "run" / "index" / name, num_passages=size, dims=DIMS, gpu="auto"
        )
        for name in names
    ]
    segment = OpenSegment(Span(0, size), NOBODY)
    embeddings = opened_embeddings(directory, size)
    return DenseIndex(NoEncoder(), [DenseSegment(parts, embeddings, segment)])


def search_polyprag(directory: Path, *, size: int) -> dict[str, Any]:
    """Rates and recalls of polyprag's index with its defaults."""
    index, refine = dense_index(directory, size), RetrievalConfig().refine
    return searched(
        directory, lambda asked: index.search_vectors(asked, k=DEPTH, refine=refine).ids
    )


def plain_faiss(directory: Path, size: int) -> Any:
    """FAISS's own index, which reads as many lists and scores as many candidates again."""
    (name,) = json.loads((directory / "dense.json").read_text())
    ours = VectorIndex.open(
        directory / "run" / "index" / name, num_passages=size, dims=DIMS, gpu="auto"
    )
    index = faiss.read_index(str(directory / "plain.faiss"))
    ivf, as_ours = inverted_file(index), inverted_file(ours._index)
    if ivf is not None and as_ours is not None:
        ivf.nprobe = as_ours.nprobe
    if isinstance(index, faiss.IndexRefine):
        index.k_factor = RetrievalConfig().refine
    return index


def search_faiss(directory: Path, *, size: int) -> dict[str, Any]:
    """Rates and recalls of FAISS's own index."""
    index = plain_faiss(directory, size)
    return searched(directory, lambda asked: index.search(asked, DEPTH)[1])


def rows(directory: Path, *, size: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """What rows, and passages, add to the time of FAISS's own search of its own index."""
    base = directory / "parts"
    for name in ("passages", "rows"):
        (base / name).mkdir(parents=True)
    write_passages(
        base / "passages",
        (Passage(i, str(i), f"Title {i}", f"The text of passage {i}. " * 25) for i in range(size)),
        num_passages=size,
    )

    def rows_of(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.random.default_rng(int(ids[0])).standard_normal(
            (len(ids), *ROW), dtype=np.float32
        )

    write_rows(base / "rows", rows_of, shape=(size, *ROW), chunk=16_384, progress=lambda _: None)
    dense = dense_index(directory, size)
    segment = Segment(0, size, ["0" * 64], ["0" * 64], {})
    manifest = IndexManifest(
        num_passages=size,
        settings_sha256="0" * 64,
        experts_sha256="0" * 64,
        removed=[],
        segments=(segment,),
    )
    index = Index(
        store_in(directory),
        manifest,
        parts=[{"passages": [base / "passages"], "rows": [base / "rows"]}],
        freshness=Freshness(),
        gpu="auto",
        retrieval=RetrievalConfig(),
    )
    index._dense = dense  # in place of what an encoder would have been needed for
    plain = plain_faiss(directory, size)
    k, batches = 10, {}
    asked = np.load(directory / QUERIES)
    for batch in (1, 32):
        turns = [asked[i : i + batch] for i in range(0, batch * 20, batch)]
        spent: dict[str, list[float]] = {name: [] for name in ("faiss", "ids", "rows", "passages")}
        for _ in range(rounds):
            started = time.perf_counter()
            for queries in turns:
                plain.search(queries, k)
            spent["faiss"].append(time.perf_counter() - started)
            started = time.perf_counter()
            for queries in turns:
                index.search_vectors(queries, k=k)
            spent["ids"].append(time.perf_counter() - started)
            started = time.perf_counter()
            for queries in turns:
                assert index.search_vectors(queries, k=k).rows is not None
            spent["rows"].append(time.perf_counter() - started)
            started = time.perf_counter()
            for queries in turns:
                for passages in index.search_vectors(queries, k=k).passages:
                    list(passages)
            spent["passages"].append(time.perf_counter() - started)
        ms = {name: 1000 * statistics.median(each) / len(turns) for name, each in spent.items()}
        batches[batch] = {
            "faiss_ms": ms["faiss"],
            "ids_ms": ms["ids"],
            "rows_ms": ms["rows"],
            "ratio_to_ids": ms["rows"] / ms["ids"],
            "ratio": ms["rows"] / ms["faiss"],
            "ratio_with_passages": ms["passages"] / ms["faiss"],
        }
    shutil.rmtree(base)
    return {"vectors": size, "numbers": ROW[0] * ROW[1], "k": k, "batches": batches}


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "vectors": vectors,
    "build-polyprag": build_polyprag,
    "build-faiss": build_faiss,
    "search-polyprag": search_polyprag,
    "search-faiss": search_faiss,
    "rows": rows,
}


if __name__ == "__main__":
    name, where, *words = sys.argv[1:]
    values = {key: int(value) for key, value in (word.split("=") for word in words)}
    print(json.dumps(CASES[name](Path(where), **values)))

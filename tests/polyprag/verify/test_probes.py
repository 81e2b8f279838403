"""Parts of an index in another order than the others, and checksums as if they were made so."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from polyprag.augment.corpus import counts_of
from polyprag.config import Config, IndexConfig
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.building import dense as build_dense
from polyprag.retrieval.building import groups
from polyprag.retrieval.building import segment as build_segment
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.lexical.term_counts import write_term_counts
from polyprag.retrieval.parts.manifest import IndexManifest, Segment
from polyprag.retrieval.parts.part import SUMMARY, IndexPart, StoredFile
from polyprag.retrieval.parts.passages import PassageStore, write_passages
from polyprag.verify.index import verify_index
from polyprag.verify.sample import sampled_ids
from sharding.change.growth import append_passages
from sharding.change.removal import remove_passages
from sharding.checks.problem import Problem
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import Passage
from sharding.ingest.prepare import prepare
from sharding.shown_progress import show_nothing
from sharding.storage.files import join, sha256_of, upload

AddEncoding = Callable[..., np.ndarray]
Change = Callable[[Path, np.ndarray], None]
IN_BASE, IN_ALL = 288, 336
REMOVED = (5, 60, 61, 287, 300)
CONFIG = Config(index=IndexConfig(lsa_dims=16))


def source_of(directory: Path, ids: range) -> Path:
    """Passages of random words, each with some of its own; every eighth has the one before's."""
    lines = []
    for i in ids:
        words = random.Random(i - (i % 8 == 7))
        text = " ".join(f"w{words.randrange(400)}" for _ in range(words.randrange(8, 30)))
        title = f"Article {words.randrange(40)}"
        lines.append(json.dumps({"id": f"key-{i}", "title": title, "text": text}))
    source = directory / f"passages-{ids.start}.jsonl"
    source.write_text("\n".join(lines))
    return source


def grown_run(run: Path, add_encoding: AddEncoding, config: Config) -> Path:
    """A base and a later segment; of both passages were removed, of the later one since."""
    run.mkdir(parents=True)
    prepare([str(source_of(run, range(IN_BASE)))], run / "corpus", partition_size=24)
    remove_passages(run / "corpus", REMOVED[:4], count=counts_of)
    add_encoding(run)
    build_index(run, config)
    append_passages(run / "corpus", [str(source_of(run, range(IN_BASE, IN_ALL)))])
    add_encoding(run)
    build_index(run, config)
    remove_passages(run / "corpus", REMOVED[4:], count=counts_of)
    add_encoding(run)
    build_index(run, config)
    return run


@pytest.fixture(scope="module")
def divided() -> Iterator[None]:
    """Parts of two or four partitions of 24."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "_MIN_PASSAGES", 48)
        patch.setattr(build_segment, "_BM25_PART", 96)
        patch.setattr(build_dense, "_PART", 96)
        yield


@pytest.fixture(scope="module")
def sound_run(
    tmp_path_factory: pytest.TempPathFactory, add_encoding: AddEncoding, divided: None
) -> Path:
    """To be copied or read only."""
    return grown_run(tmp_path_factory.mktemp("probes") / "run", add_encoding, CONFIG)


@pytest.fixture
def run(sound_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_run, tmp_path / "run"))


def verify(run: Path | str, sound: tuple[str, ...] = ("corpus", "encoding")) -> list[Problem]:
    problems, _ = verify_index(
        str(run),
        corpus=CorpusManifest.load(join(run, "corpus")),
        sound=sound,
        quick=False,
        show=show_nothing,
    )
    return problems


def other_order(segment: Segment, part: IndexPart, name: str) -> np.ndarray:
    """Positions in a part of a segment, those of living passages moved on by one."""
    sizes = {"embeddings": 48, "bm25": 96, "dense": 96}
    is_divided = len(segment.parts[name]) > 1
    size = sizes[name] if is_divided else segment.num_passages
    first = size * [each.directory for each in segment.parts[name]].index(part.directory)
    gone = [i - segment.first_id - first for i in REMOVED]
    order = np.arange(size)
    living = np.setdiff1d(order, gone)
    order[living] = np.roll(living, 1)
    return order


def swap(run: Path, number: int, name: str, at: int, change: Change) -> IndexPart:
    """Changes a part of a segment, and then writes what is said of its files to fit it."""
    manifest = IndexManifest.load(run / "index")
    segment = manifest.segments[number]
    part = segment.parts[name][at]
    directory = run / "index" / part.directory
    change(directory, other_order(segment, part, name))
    changed = IndexPart(
        part.directory,
        {
            file: StoredFile((directory / file).stat().st_size, sha256_of(directory / file))
            for file in part.files
        },
    )
    assert changed != part
    summary = json.loads((directory / SUMMARY).read_text())
    summary["files"] = {
        file: {"num_bytes": stored.num_bytes, "sha256": stored.sha256}
        for file, stored in changed.files.items()
    }
    (directory / SUMMARY).write_text(json.dumps(summary))
    parts = list(segment.parts[name])
    parts[at] = changed
    segments = list(manifest.segments)
    segments[number] = structs.replace(segment, parts=segment.parts | {name: parts})
    structs.replace(manifest, segments=tuple(segments)).save(run / "index")
    return changed


def array_in(file: str) -> Change:
    def change(directory: Path, order: np.ndarray) -> None:
        np.save(directory / file, np.load(directory / file)[order])

    return change


def passages_of(run: Path, number: int) -> list[Passage]:
    segment = IndexManifest.load(run / "index").segments[number]
    (part,) = segment.parts["passages"]
    store = PassageStore.open(
        run / "index" / part.directory,
        num_passages=segment.num_passages,
        first_id=segment.first_id,
    )
    return [store[segment.first_id + i] for i in range(len(store))]


def other_passages(run: Path, number: int, **of: str) -> Change:
    def change(directory: Path, order: np.ndarray) -> None:
        passages = passages_of(run, number)
        moved = [
            msgspec.structs.replace(passages[at], id=passages[0].id + i, **of)
            for i, at in enumerate(order)
        ]
        write_passages(directory, moved, num_passages=len(moved), first_id=passages[0].id)

    return change


def other_counts(run: Path) -> Change:
    def change(directory: Path, order: np.ndarray) -> None:
        passages = passages_of(run, 1)
        texts = [(passages[at].title, passages[at].text) for at in order]
        write_term_counts(
            directory, texts, analyzer=Analyzer.of_language("english"), title_weight=2
        )

    return change


def other_scores(directory: Path, order: np.ndarray) -> None:
    """BM25's arrays: each pair of a term and a passage goes to another passage."""
    (path,) = [path for path in directory.iterdir() if path.name.startswith("indices")]
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    indices = np.load(path)
    np.save(path, place[indices].astype(indices.dtype))


def other_vectors(directory: Path, order: np.ndarray) -> None:
    """FAISS's, which has a vector for living passages only."""
    index = faiss.read_index(str(directory / "vectors.faiss"))
    vectors = index.reconstruct_n(0, index.ntotal)
    index.reset()
    index.add(np.roll(vectors, 1, axis=0))
    faiss.write_index(index, str(directory / "vectors.faiss"))


def one_fewer(directory: Path, order: np.ndarray) -> None:
    index = faiss.read_index(str(directory / "vectors.faiss"))
    index.remove_ids(np.array([7]))
    faiss.write_index(index, str(directory / "vectors.faiss"))
    positions = directory / "positions.npy"
    np.save(positions, np.delete(np.load(positions), 7))


def test_a_sound_index_agrees_with_itself(sound_run: Path) -> None:
    manifest = IndexManifest.load(sound_run / "index")
    assert manifest.removed == list(REMOVED)
    counts = [
        {name: len(parts) for name, parts in segment.parts.items()} for segment in manifest.segments
    ]
    one = {"passages": 1, "rows": 1, "bm25": 1, "embeddings": 1, "dense": 1}
    assert counts == [one | {"encoder": 1, "bm25": 3, "embeddings": 6, "dense": 3}, one]
    for sound in ((), ("corpus", "encoding")):
        assert [problem.message for problem in verify(sound_run, sound)] == []


@pytest.mark.parametrize(
    "settings",
    [
        {"rows_format": "int8"},
        {"factory": "IVF4,PQ4x4"},
        {"factory": "OPQ4_8,IVF4,PQ4x4fs"},
        {"factory": "HNSW8"},
        {"factory": "IVF4,SQ8"},
        {"factory": "PCA8,Flat"},
        {"bm25_title_weight": 7, "bm25_k1": 1.5, "bm25_b": 0.9, "language": "none"},
        {"lsa_sketch": 0.0, "passage_prefix": "passage: "},
    ],
)
def test_a_sound_index_of_any_settings_agrees_with_itself(
    tmp_path: Path, add_encoding: AddEncoding, settings: dict[str, Any]
) -> None:
    config = Config(index=IndexConfig(**{"lsa_dims": 16} | settings))
    run = grown_run(tmp_path / "run", add_encoding, config)
    assert [problem.message for problem in verify(run)] == []


CASES: dict[str, tuple[int, str, int, Callable[[Path], Change], str]] = {
    "texts": (0, "passages", 0, lambda run: other_passages(run, 0), "has the key 'key-28"),
    "later texts": (1, "passages", 0, lambda run: other_passages(run, 1), "has the key 'key-3"),
    "rows": (0, "rows", 0, lambda run: array_in("rows.npy"), "where the encoding has"),
    "later rows": (1, "rows", 0, lambda run: array_in("rows.npy"), "where the encoding has"),
    "bm25": (0, "bm25", 1, lambda run: other_scores, "for its own first words"),
    "later bm25": (1, "bm25", 0, other_counts, "for its own first words"),
    "embeddings": (0, "embeddings", 2, lambda run: array_in("vectors.npy"), "whose cosine"),
    "later embeddings": (
        *(1, "embeddings", 0),
        *(lambda run: array_in("vectors.npy"), "whose cosine"),
    ),
    "faiss": (0, "dense", 1, lambda run: other_vectors, "isn't found by its own vector"),
    "later faiss": (1, "dense", 0, lambda run: other_vectors, "isn't found by its own vector"),
    "faiss's count": (0, "dense", 0, lambda run: one_fewer, "283 vectors"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_part_in_another_order_is_found_and_mended(run: Path, case: str, divided: None) -> None:
    number, name, at, change, told = CASES[case]
    part = swap(run, number, name, at, change(run))
    (problem,) = verify(run)
    directory = f"{run}/index/{part.directory}"
    segment = IndexManifest.load(run / "index").segments[number]
    assert problem.file == directory
    assert problem.message.startswith(f"{directory}: ")
    assert told in problem.message
    remedy = problem.message.rpartition("; ")[2]
    assert remedy.startswith(f"delete {directory}")
    if name != "dense":  # whose count is of all
        words = problem.message.removeprefix(f"{directory}: passage ").split()
        assert segment.first_id <= int(words[0]) < segment.first_id + segment.num_passages
    for pattern in remedy.removesuffix(" and run `polyprag index RUN` again").split(" and "):
        for path in (run / "index").glob(pattern.removeprefix("delete ").rpartition("/")[2]):
            shutil.rmtree(path)
    build_index(run, CONFIG)
    assert verify(run) == []


def test_a_text_is_shown_where_it_differs(run: Path) -> None:
    texts = {passage.id: passage.text for passage in passages_of(run, 0)}

    def change(directory: Path, order: np.ndarray) -> None:
        moved = [
            passage
            if passage.is_removed
            else msgspec.structs.replace(passage, text=f"{passage.text} and a walrus")
            for passage in passages_of(run, 0)
        ]
        write_passages(directory, moved, num_passages=len(moved))

    swap(run, 0, "passages", 0, change)
    (problem,) = verify(run)
    text, start = texts[0], len(texts[0]) - 20
    told = f"passage 0 has the text '{text[start:]} and a walrus' from character {start} on, where "
    assert told + f"the corpus has '{text[start:]}' (41 of 41 passages" in problem.message
    of_index = verify(run, ("encoding",))  # whose texts have other words than BM25 then
    assert ["for its own first words" in each.message for each in of_index][-1:] == [True]


def test_passages_that_are_not_found_by_their_texts_are_told(run: Path) -> None:
    def change(directory: Path, order: np.ndarray) -> None:
        np.save(directory / "hashes.npy", np.load(directory / "hashes.npy") + np.uint64(1))

    swap(run, 0, "passages", 0, change)
    (problem,) = verify(run)
    assert "passage 0 isn't found by its title and text" in problem.message


def test_two_vectors_in_each_others_places_are_told_where_scores_are_exact(run: Path) -> None:
    def change(directory: Path, order: np.ndarray) -> None:
        index = faiss.read_index(str(directory / "vectors.faiss"))
        vectors = index.reconstruct_n(0, index.ntotal)
        vectors[[0, 50]] = vectors[[50, 0]]
        index.reset()
        index.add(vectors)
        faiss.write_index(index, str(directory / "vectors.faiss"))

    swap(run, 0, "dense", 0, change)
    (problem,) = verify(run)
    assert "passage 51 scores 1.0000 for the vector of passage 0 where its own" in problem.message


def other_ids(directory: Path, order: np.ndarray) -> None:
    """An inverted file's."""
    index = faiss.read_index(str(directory / "vectors.faiss"))
    lists = faiss.extract_index_ivf(index).invlists
    for i in range(lists.nlist):
        ids = faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i))
        ids[:] = order[ids]
    faiss.write_index(index, str(directory / "vectors.faiss"))


@pytest.mark.parametrize("factory", ["IVF4,PQ4x4", "IVF4,SQ8", "IVF4,Flat"])
def test_ids_of_an_inverted_file_in_another_order_are_told(
    tmp_path: Path, add_encoding: AddEncoding, factory: str
) -> None:
    config = Config(index=IndexConfig(lsa_dims=16, factory=factory))
    run = grown_run(tmp_path / "run", add_encoding, config)
    swap(run, 0, "dense", 0, other_ids)
    (problem,) = verify(run)
    assert "isn't found by its own vector" in problem.message


def test_a_part_that_does_not_open_is_told(run: Path) -> None:
    def change(directory: Path, order: np.ndarray) -> None:
        np.save(directory / "rows.npy", np.load(directory / "rows.npy").astype(np.float64))

    swap(run, 0, "rows", 0, change)
    assert ["float64 of shape (288, 3, 4)" in each.message for each in verify(run)] == [True]


def test_a_segment_of_which_nothing_is_left_is_no_problem(
    run: Path, add_encoding: AddEncoding, divided: None
) -> None:
    later = [i for i in range(IN_BASE, IN_ALL) if i not in REMOVED]
    remove_passages(run / "corpus", later, count=counts_of)
    add_encoding(run)
    manifest = build_index(run, CONFIG)
    assert len(manifest.segments) == 2
    assert [problem.message for problem in verify(run)] == []


def test_an_endpoint_is_not_asked(
    tmp_path: Path,
    make_corpus_run: Callable[[Path], Path],
    serve_endpoint: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whose vectors are of any length, so that many find longer ones before themselves."""

    def answer(body: Any) -> tuple[int, Any]:
        vectors = [
            np.random.default_rng(list(text.encode())).normal(size=8).tolist()
            for text in body["input"]
        ]
        return 200, {
            "object": "list",
            "data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        }

    endpoint = serve_endpoint("/v1/embeddings", answer)
    monkeypatch.setenv("TEST_POLYPRAG_KEY", "the-key")
    run = make_corpus_run(tmp_path / "run")
    index = IndexConfig(
        encoder="openai",
        encoder_path="m",
        base_url=endpoint.url,
        api_key_env="TEST_POLYPRAG_KEY",
        normalize=False,
    )
    build_index(run, Config(index=index))
    monkeypatch.delenv("TEST_POLYPRAG_KEY")
    asked = len(endpoint.requests)
    assert [problem.message for problem in verify(run, ("corpus",))] == []
    swap(run, 0, "dense", 0, other_vectors)
    (problem,) = verify(run, ("corpus",))
    assert f" and {run}/index/embeddings-* and run `polyprag index RUN` again" in problem.message
    assert len(endpoint.requests) == asked


def test_a_remote_index_is_looked_at_too(
    run: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    part = swap(run, 0, "embeddings", 2, array_in("vectors.npy"))
    for path in sorted(run.rglob("*")):
        if path.is_file():
            upload(path, join(s3, "run", path.relative_to(run).as_posix()))
    (problem,) = verify(f"{s3}/run")
    assert problem.file == f"{s3}/run/index/{part.directory}"
    assert "whose cosine" in problem.message


@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    removed=st.sets(st.integers(0, 359), max_size=360),
)
def test_the_sample_is_of_living_passages_of_every_segment(
    sizes: list[int], removed: set[int]
) -> None:
    segments = []
    for size in sizes:
        first_id = sum(segment.num_passages for segment in segments)
        segments.append(Segment(first_id, size, ["0" * 64], [], {}))
    gone = sorted(i for i in removed if i < sum(sizes))
    manifest = IndexManifest(
        num_passages=sum(sizes),
        settings_sha256="0" * 64,
        experts_sha256=None,
        removed=gone,
        segments=tuple(segments),
    )
    for segment, ids in zip(segments, sampled_ids(manifest), strict=True):
        of_segment = range(segment.first_id, segment.first_id + segment.num_passages)
        living = [i for i in of_segment if i not in removed]
        assert len(ids) == len(set(ids)) >= min(6, len(living))
        ranks = [living.index(i) for i in ids.tolist()]  # all of them are living
        if len(ids) > 1:
            assert (ranks[0], ranks[-1]) == (0, len(living) - 1)
            gaps = np.diff(ranks)
            assert gaps.max() - gaps.min() <= 1

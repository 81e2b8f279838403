"""A run of 40 short passages with routing rows, and its index."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from polyprag.config import Config, ExpertsConfig, IndexConfig
from polyprag.encoding.manifest import BaseModel, RowsPart, Trained
from polyprag.encoding.reader import encoding_dir, save_encoding
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.lexical.bm25 import write_bm25
from polyprag.retrieval.lexical.term_counts import TermCounts, write_term_counts
from polyprag.retrieval.lexical.term_statistics import TermStatistics
from sharding.corpus.manifest import CorpusManifest
from sharding.ingest.prepare import prepare
from sharding.rows.file import save_rows
from sharding.rows.part import RowPartition
from sharding.storage.files import join

PLACES = ("Vienna", "Oslo", "Łódź", "Kyoto", "Québec")
TRADES = ("composer", "painter", "chemist", "sailor")
NAMES = ("Adler", "Berg", "Çelik", "Dvořák", "Eriksen", "Fuchs", "Grün", "Holm", "Ibsen", "Jara")
NUM_PASSAGES, NUM_SITES, NUM_EXPERTS = 40, 3, 4


def titled_text(i: int) -> tuple[str, str]:
    name, place, trade = NAMES[i % 10], PLACES[i % 5], TRADES[i // 10]
    return (
        f"{name} {i}",
        f"{name} was a {trade} who was born in {place} and worked there for {i} years. "
        * (1 + i % 3),
    )


@pytest.fixture(scope="session")
def titled_texts() -> list[tuple[str, str]]:
    return [titled_text(i) for i in range(NUM_PASSAGES)]


@pytest.fixture(scope="session")
def files_in() -> Callable[[Path], dict[str, bytes]]:
    """Read all files of a directory."""

    def read(directory: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in directory.iterdir()}

    return read


@pytest.fixture(scope="session")
def write_bm25_parts() -> Callable[..., list[Path]]:
    """Write a base's BM25 parts from (title, text) pairs, divided into so many."""

    def write(
        directory: Path,
        titled_texts: list[tuple[str, str]],
        *,
        num_parts: int = 1,
        title_weight: int = 2,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> list[Path]:
        analyzer = Analyzer.of_language("english")
        groups = []
        for i, chunk in enumerate(np.array_split(np.arange(len(titled_texts)), 2 * num_parts)):
            counts = directory / f"counts-{i}"
            counts.mkdir(parents=True)
            texts = (titled_texts[at] for at in chunk.tolist())
            write_term_counts(counts, texts, analyzer=analyzer, title_weight=title_weight)
            groups.append(TermCounts.open(counts))
        statistics = TermStatistics.of(groups)
        parts = []
        for i in range(num_parts):
            part = directory / f"part-{i}"
            part.mkdir()
            two = groups[2 * i : 2 * i + 2]
            write_bm25(
                part,
                two,
                statistics,
                analyzer=analyzer,
                title_weight=title_weight,
                k1=k1,
                b=b,
            )
            parts.append(part)
        return parts

    return write


@pytest.fixture(scope="session")
def make_corpus_run(titled_texts: list[tuple[str, str]]) -> Callable[[Path], Path]:
    """Make a run with a corpus of four partitions."""

    def make(run: Path) -> Path:
        run.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"id": f"key-{i}", "title": title, "text": text})
            for i, (title, text) in enumerate(titled_texts)
        ]
        source = run / "passages.jsonl"
        source.write_text("\n".join(lines), encoding="utf-8")
        prepare([str(source)], run / "corpus", partition_size=12)
        return run

    return make


@pytest.fixture(scope="session")
def add_encoding() -> Callable[..., np.ndarray]:
    """Write an encoding of the corpus with random rows and return the rows (N, S, K).

    Those of a partition follow from the seed and its number, so they stay as they are when the
    corpus grows; those of removed passages are zero.
    """

    def add(
        run: Path,
        *,
        seed: int = 0,
        num_passages: int | None = None,
        row_shape: tuple[int, int] = (NUM_SITES, NUM_EXPERTS),
    ) -> np.ndarray:
        corpus = CorpusManifest.load(run / "corpus")
        directory = encoding_dir(run)
        parts, all_rows = [], []
        for partition in corpus.partitions:
            count = partition.num_passages
            if num_passages is not None:
                count = min(count, num_passages - partition.first_id)
            if count <= 0:
                break
            generator = np.random.default_rng([seed, partition.index])
            shape = (partition.num_passages, *row_shape)
            rows = generator.standard_normal(shape, dtype=np.float32)[:count]
            rows[np.array(corpus.removed_in(partition), int) - partition.first_id] = 0
            zeros = np.zeros_like(rows)
            part = RowPartition(
                partition.index, partition.first_id, rows, zeros, zeros, np.zeros(count, np.int32)
            )
            file = f"rows/part-{partition.index:05d}.safetensors"
            sha256, _ = save_rows(join(directory, file), part, moments=False)
            parts.append(RowsPart(partition.index, partition.first_id, count, file, sha256))
            all_rows.append(rows)
        save_encoding(
            directory,
            config=Config(experts=ExpertsConfig(num=row_shape[1])),
            expert_state={"layer.A": torch.zeros(2, 2)},
            base_model=BaseModel("none", 1, 1, "0" * 64),
            num_sites=row_shape[0],
            parts=parts,
            trained=Trained(steps=1, epochs=1),
        )
        return np.concatenate(all_rows)

    return add


@pytest.fixture(scope="session")
def indexed_run(
    tmp_path_factory: pytest.TempPathFactory,
    make_corpus_run: Callable[[Path], Path],
    add_encoding: Callable[..., np.ndarray],
) -> tuple[Path, np.ndarray]:
    """A run with an index, to be read only, and its rows (N, S, K)."""
    run = make_corpus_run(tmp_path_factory.mktemp("index") / "run")
    rows_NSK = add_encoding(run)
    build_index(run, Config(index=IndexConfig(lsa_dims=16)))
    return run, rows_NSK

"""BM25 parts, and the index of a run of 40 short passages with routing rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polyprag.config import Config, IndexConfig
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.lexical.bm25 import write_bm25
from polyprag.retrieval.lexical.term_counts import TermCounts, write_term_counts
from polyprag.retrieval.lexical.term_statistics import TermStatistics


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

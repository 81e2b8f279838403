"""The data plane's benchmark: its corpus is what it says, and a small run of it measures."""

import csv
import importlib
import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    return importlib.import_module("data_plane.corpus")


def measured(what: str, tsv: Path, directory: Path, **further: Any) -> dict[str, Any]:
    arguments = {"directory": str(directory), "tsv": str(tsv), "seed": 1, **further}
    run_module = importlib.import_module("harness.processes").run_module
    run = run_module("data_plane.case", "polyprag", what, json.dumps(arguments))
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def test_synthetic_corpus_depends_on_the_seed_alone(corpus: ModuleType) -> None:
    once = list(corpus.rows(300, seed=1))
    assert list(corpus.rows(200, seed=1)) == once[:200]
    assert list(corpus.rows(300, seed=2)) != once


def test_synthetic_corpus_has_the_shape_of_psgs_w100(corpus: ModuleType, tmp_path: Path) -> None:
    tsv = tmp_path / "psgs_w100.tsv"
    corpus.write_tsv(tsv, 5000, seed=1)
    with tsv.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t", strict=True)
    assert header == ["id", "text", "title"]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 5001)]
    assert {len(text.split(" ")) for _, text, _ in rows} == {100}
    articles = sum(before[2] != row[2] for before, row in pairwise(rows))
    assert 1000 < articles < 1500
    # 13 GB, be it 10^9 or 2^30 bytes, by 21,015,324 rows
    assert 13e9 / 21_015_324 <= tsv.stat().st_size / 5000 <= 13 * 2**30 / 21_015_324
    lines = tsv.read_text(encoding="utf-8").splitlines()
    assert any('""' in line for line in lines) and all('\t"' in line for line in lines[1:])


def test_prepare_reads_the_synthetic_corpus_as_it_was_made(
    corpus: ModuleType, tmp_path: Path
) -> None:
    tsv = tmp_path / "psgs_w100.tsv"
    corpus.write_tsv(tsv, 500, seed=3)
    prepare([str(tsv)], tmp_path / "corpus", partition_size=64)
    passages = [record.passage for record in Corpus.open(tmp_path / "corpus").iterate()]
    assert [(p.key, p.title, p.text) for p in passages] == list(corpus.rows(500, seed=3))


def test_measurements_see_every_passage_once(corpus: ModuleType, tmp_path: Path) -> None:
    tsv, directory = tmp_path / "psgs_w100.tsv", tmp_path / "corpus"
    corpus.write_tsv(tsv, 3000, seed=1)
    expected = corpus.totals(corpus.rows(3000, seed=1))
    assert measured("write", tsv, directory)["bytes"] > 3000 * 1024
    assert measured("sequential", tsv, directory)["totals"] == expected
    shuffled = measured("shuffled", tsv, directory, half=1472)
    assert shuffled["totals"] == expected
    middle = shuffled["middle"]
    resumed = measured("resume", tsv, directory, middle=middle, finish=True)
    assert resumed["exact"] and resumed["totals"] == expected
    # and a state from elsewhere is noticed
    middle["state"]["lanes"][0][1] += 1
    assert measured("resume", tsv, directory, middle=middle, finish=True)["totals"] != expected

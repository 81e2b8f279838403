import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config, IndexConfig
from polyprag.errors import CorpusError, RunError
from polyprag.retrieval.building import work
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.search import METHODS, Index

CONFIG = Config(index=IndexConfig(lsa_dims=16))

MakeRun = Callable[[Path], Path]
AddEncoding = Callable[..., np.ndarray]


def files_of(index_dir: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(index_dir)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in index_dir.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def parts_of(run: Path) -> dict[str, str]:
    (base,) = json.loads((run / "index" / "manifest.json").read_text())["segments"]
    return {name: part["directory"] for name, (part,) in base["components"].items()}


def test_building_again_changes_nothing(tmp_path: Path, make_corpus_run: MakeRun) -> None:
    run = make_corpus_run(tmp_path / "run")
    first = build_index(run, CONFIG)
    files = files_of(run / "index")
    assert build_index(run, CONFIG) == first
    assert files_of(run / "index") == files


def test_two_builds_of_the_same_passages_give_the_same_bytes(
    tmp_path: Path, make_corpus_run: MakeRun
) -> None:
    first = build_index(make_corpus_run(tmp_path / "one"), CONFIG)
    second = build_index(make_corpus_run(tmp_path / "two"), CONFIG)
    for name in ("passages", "bm25", "dense"):
        one, other = (manifest.segments[0].parts[name] for manifest in (first, second))
        assert one == other


def test_progress_adds_up_to_the_corpus(tmp_path: Path, make_corpus_run: MakeRun) -> None:
    run = make_corpus_run(tmp_path / "run")
    for _ in range(2):  # the second time everything is there
        steps: list[int] = []
        build_index(run, CONFIG, steps.append)
        assert sum(steps) == 40
        assert min(steps) > 0


def test_a_new_encoding_rebuilds_the_rows_alone(
    tmp_path: Path, make_corpus_run: MakeRun, add_encoding: AddEncoding
) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, CONFIG)
    assert not Index.open(run).has_rows
    without = parts_of(run)
    for seed in (0, 1):
        rows_NSK = add_encoding(run, seed=seed)
        with pytest.raises(RunError, match="encoding has changed since"):
            Index.open(run)
        build_index(run, CONFIG)
        parts = parts_of(run)
        assert {name: parts[name] for name in without} == without
        np.testing.assert_allclose(Index.open(run).rows_of([39])[0], rows_NSK[39], rtol=1e-3)
    assert sorted(path.name for path in (run / "index").iterdir() if path.is_dir()) == sorted(
        parts_of(run).values()
    )


def test_a_setting_rebuilds_only_what_it_decides(tmp_path: Path, make_corpus_run: MakeRun) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, CONFIG)
    before = parts_of(run)
    build_index(run, Config(index=IndexConfig(lsa_dims=16, bm25_k1=2.0)))
    after = parts_of(run)
    assert {name for name in before if before[name] != after[name]} == {"bm25"}


def test_augmenting_rebuilds_the_passages_alone(tmp_path: Path, make_corpus_run: MakeRun) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, CONFIG)
    before = parts_of(run)
    augment_corpus(run, CONFIG)
    with pytest.raises(RunError, match="corpus has changed since"):
        Index.open(run)
    build_index(run, CONFIG)
    after = parts_of(run)
    assert {name for name in before if before[name] != after[name]} == {"passages"}
    Index.open(run)


def test_a_build_that_failed_goes_on_with_the_parts_it_lacks(
    tmp_path: Path, make_corpus_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_corpus_run(tmp_path / "run")

    def interrupted(directory: Path, *_: object, **__: object) -> None:
        (directory / "half").write_text("written")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(work, "write_embeddings", interrupted)
        build_index(run, CONFIG)
    with pytest.raises(RunError, match="run `polyprag index RUN` first"):
        Index.open(run)
    files = files_of(run / "index")
    assert files
    assert not any("half" in name for name in files)
    build_index(run, CONFIG)
    # What was only needed to make the finished parts is deleted.
    left = {name: file for name, file in files.items() if name.startswith(("passages-", "bm25-"))}
    assert left
    assert left.items() <= files_of(run / "index").items()
    Index.open(run, verify=True)


def test_a_damaged_part_is_built_again(tmp_path: Path, make_corpus_run: MakeRun) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, CONFIG)
    path = run / "index" / parts_of(run)["dense"] / "vectors.faiss"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    build_index(run, CONFIG)
    assert path.read_bytes() == whole


def test_left_over_directories_of_killed_builds_go(
    tmp_path: Path, make_corpus_run: MakeRun
) -> None:
    run = make_corpus_run(tmp_path / "run")
    (run / "index" / ".bm25-000000000000.1234.tmp").mkdir(parents=True)
    build_index(run, CONFIG)
    assert not list((run / "index").glob("*.tmp"))
    assert not list((run / "index").glob(".*.tmp"))


def test_a_second_build_at_the_same_time_is_refused(
    tmp_path: Path, make_corpus_run: MakeRun
) -> None:
    run = make_corpus_run(tmp_path / "run")
    (run / "index").mkdir()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
            "print('locked', flush=True); sys.stdin.read()",
            str(run / "index" / ".lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RunError, match="another `polyprag index`"):
            build_index(run, CONFIG)
    finally:
        holder.communicate()
    build_index(run, CONFIG)


def test_rows_of_another_corpus_are_a_run_error(
    tmp_path: Path, make_corpus_run: MakeRun, add_encoding: AddEncoding
) -> None:
    run = make_corpus_run(tmp_path / "run")
    add_encoding(run, num_passages=39)
    with pytest.raises(RunError, match=r"39 passages.*40.*polyprag encode"):
        build_index(run, CONFIG)


def test_a_run_without_a_corpus_is_a_corpus_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="polyprag prepare"):
        build_index(tmp_path, CONFIG)


@pytest.mark.skipif(os.name != "posix", reason="maps of deleted files are POSIX")
def test_an_open_index_goes_on_while_it_is_replaced(
    tmp_path: Path, make_corpus_run: MakeRun
) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, CONFIG)
    index = Index.open(run)
    before = index.search(["composer Oslo"], k=3)[0]
    shutil.rmtree(run / "index")
    after = index.search(["composer Oslo"], k=3)[0]
    assert after.ids.tolist() == before.ids.tolist()
    assert after.passages == before.passages


def test_readers_keep_the_version_that_they_opened(
    tmp_path: Path, make_corpus_run: MakeRun
) -> None:
    run = make_corpus_run(tmp_path / "run")
    first = build_index(run, CONFIG)
    index = Index.open(run)  # BM25 and the dense index are opened by the first search with them
    second = build_index(run, Config(index=IndexConfig(lsa_dims=8, bm25_k1=2.0)))
    old, new = ({part.directory for part in each.parts} for each in (first, second))
    there = {path.name for path in (run / "index").iterdir() if path.is_dir()}
    assert there == old | new
    expected = make_corpus_run(tmp_path / "other")
    build_index(expected, CONFIG)
    for method in METHODS:
        hits, known = (
            each.search(["composer Oslo"], k=5, method=method)[0]
            for each in (index, Index.open(expected))
        )
        np.testing.assert_array_equal(hits.ids, known.ids)
        np.testing.assert_array_equal(hits.scores, known.scores)
    del index, hits
    gc.collect()
    build_index(run, Config(index=IndexConfig(lsa_dims=8, bm25_k1=2.0)))
    assert {path.name for path in (run / "index").iterdir() if path.is_dir()} == new

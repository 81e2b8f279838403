"""A corpus as a webdataset pipeline: every passage once, over nodes, workers and epochs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from sharding.change.removal import remove_passages
from sharding.corpus.reader import Corpus
from sharding.corpus.webdataset import open_pipeline
from sharding.errors import CorpusError
from sharding.ingest.prepare import prepare

ROOT = Path(__file__).parents[3]
NUM = 60


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wds")
    lines = [{"id": f"k{i}", "title": f"T {i}", "text": f"Text {i}."} for i in range(NUM)]
    source = directory / "x.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepare([str(source)], directory / "corpus", partition_size=8)
    return directory / "corpus"


def ids(samples: Any) -> list[int]:
    return [sample["id"] for sample in samples]


def test_a_sample_is_a_passage_and_all_come_in_order(corpus: Path) -> None:
    samples = list(open_pipeline(corpus))
    assert ids(samples) == list(range(NUM))
    assert samples[3] == {
        "__key__": "000000000003",
        "__url__": str(corpus / Corpus.open(corpus).manifest.partitions[0].file),
        "id": 3,
        "key": "k3",
        "title": "T 3",
        "text": "Text 3.",
        "augmentation": None,
    }


def test_shuffled_epochs_differ_and_are_those_of_their_seed(corpus: Path) -> None:
    pipeline = open_pipeline(corpus, shuffle=20, seed=3)
    first, second = ids(pipeline), ids(pipeline)
    assert sorted(first) == sorted(second) == list(range(NUM))
    assert first != second and first != list(range(NUM))
    assert ids(open_pipeline(corpus, shuffle=20, seed=3)) == first
    assert ids(open_pipeline(corpus, shuffle=20, seed=4)) != first


@pytest.mark.parametrize("shuffle", [0, 10])
def test_nodes_and_workers_share_the_shards(
    corpus: Path, shuffle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        pipeline = open_pipeline(corpus, shuffle=shuffle)
        shares.append(ids(DataLoader(pipeline, batch_size=None, num_workers=2)))
    assert sorted(shares[0] + shares[1]) == list(range(NUM))
    assert all(len(share) >= 20 for share in shares)


def test_removed_passages_are_left_out_and_urls_are_read(tmp_path: Path, corpus: Path) -> None:
    import fsspec

    for path in corpus.iterdir():
        with fsspec.open(f"memory://{tmp_path.name}/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    url = f"memory://{tmp_path.name}"
    remove_passages(url, [5, 9], count=lambda record: {})
    assert ids(open_pipeline(url)) == [i for i in range(NUM) if i not in (5, 9)]


def test_a_damaged_shard_is_named(tmp_path: Path, corpus: Path) -> None:
    for path in corpus.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / Corpus.open(tmp_path).manifest.partitions[1].file
    shard.write_bytes(shard.read_bytes().replace(b"Text", b"Test"))
    with pytest.raises(CorpusError, match=shard.name):
        list(open_pipeline(tmp_path))
    with pytest.raises(CorpusError, match="polyprag prepare"):
        open_pipeline(tmp_path / "nowhere")


def test_webdataset_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys, sharding.corpus.webdataset, sharding.ingest.prepare, "
        "sharding.ingest.formats.tar; assert not {'webdataset', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_reads_every_passage_once(corpus: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "webdataset_pipeline.py"), str(corpus)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{NUM} passages, {2 * NUM} words\n"

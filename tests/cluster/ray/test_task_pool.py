"""prepare on Ray: the same bytes as in one process, and errors as users know them."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.ray.session import ray_session
from cluster.ray.task_pool import RayGpuPool, RayPool, num_gpus
from polyprag.augment.corpus import OpenPassagesError, augment_corpus
from polyprag.augment.work.partition import Came
from polyprag.cli import main
from polyprag.config import AugmentConfig, ClusterConfig, Config, IndexConfig, ModelConfig
from polyprag.errors import CorpusError, FileError, RunError
from polyprag.retrieval.building import groups
from polyprag.retrieval.building.index import build_index
from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare
from sharding.task_pool import InlinePool

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    with ray_session(ClusterConfig()):
        yield


def write_source(path: Path, number: int, extra: str = "") -> str:
    lines = [
        json.dumps({"id": i, "title": f"T {i}", "text": f"Text {i}. " * (i % 5 + 1)})
        for i in range(number)
    ]
    path.write_text("\n".join(lines) + "\n" + extra)
    return str(path)


def contents(corpus_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in corpus_dir.iterdir()}


def test_ray_makes_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    sources = [write_source(tmp_path / "a.jsonl", 500)]
    prepare(sources, tmp_path / "one", partition_size=16)
    prepare(sources, tmp_path / "ray", partition_size=16, pool=RayPool(), split_bytes=2000)
    assert contents(tmp_path / "ray") == contents(tmp_path / "one")


def test_a_user_s_error_on_ray_is_what_it_is_elsewhere(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.jsonl", 500, "oops\n")
    with pytest.raises(CorpusError, match=r"^\S*a\.jsonl:501: bad JSON.*--on-error skip$"):
        prepare([source], tmp_path / "c", partition_size=16, pool=RayPool(2), split_bytes=2000)
    with pytest.raises(FileError, match=r"^\S*b\.jsonl: no such file"):
        list(RayPool(2).map(open_source, [str(tmp_path / "b.jsonl")]))
    with pytest.raises(ZeroDivisionError):
        list(RayPool(2).map(one_by, [0]))


def open_source(url: str) -> None:
    from sharding.storage.files import open_url

    open_url(url)


def one_by(number: int) -> float:
    return 1 / number


def test_the_command_works_on_ray_with_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path / "a.jsonl", 50)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["prepare", "run", "a.jsonl", "--ray", "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert "run/corpus: 50 passages in 1 partition\n" in result.output


def index_contents(run: Path) -> dict[str, bytes]:
    index = run / "index"
    return {
        path.relative_to(index).as_posix(): path.read_bytes()
        for path in index.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_an_index_made_on_ray_is_that_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_MIN_PASSAGES", 100)  # several groups of a few passages
    monkeypatch.setattr(groups, "_MAX_PASSAGES", 100)
    sources = [write_source(tmp_path / "a.jsonl", 500)]
    config = Config(index=IndexConfig(lsa_dims=8, factory="IVF4,SQfp16"))
    for name in ("one", "ray"):
        prepare(sources, tmp_path / name / "corpus", partition_size=50)
    pool = RayPool(2)
    one = build_index(tmp_path / "one", config)
    assert build_index(tmp_path / "ray", config, pool=pool, encoding_pool=pool) == one
    assert len(one.segments[0].parts["embeddings"]) == 5
    assert index_contents(tmp_path / "ray") == index_contents(tmp_path / "one")


def test_a_model_writes_on_ray_what_it_writes_here(tmp_path: Path) -> None:
    """A model of four million parameters; whatever it writes, or fails with, comes back."""
    sources = [write_source(tmp_path / "a.jsonl", 6)]
    config = Config(
        model=ModelConfig(path="polyprag:tiny-base"),
        augment=AugmentConfig(backend="hf", max_new_tokens=8, max_retries=0),
    )
    made = {}
    for name, pool in (("one", InlinePool()), ("ray", RayPool(2))):
        prepare(sources, tmp_path / name / "corpus", partition_size=2)
        came = Came()
        with suppress(OpenPassagesError):
            augment_corpus(tmp_path / name, config, came=came, pool=pool)
        made[name] = (came, list(Corpus.open(tmp_path / name / "corpus").iterate()))
    assert made["ray"] == made["one"]
    assert made["ray"][0].asked == 6


def test_a_user_s_error_in_a_piece_is_what_it_is_elsewhere(tmp_path: Path) -> None:
    sources = [write_source(tmp_path / "a.jsonl", 50)]
    prepare(sources, tmp_path / "run" / "corpus", partition_size=50)
    shard = next((tmp_path / "run" / "corpus").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-600])
    with pytest.raises(CorpusError, match=shard.name):
        build_index(tmp_path / "run", Config(), pool=RayPool(2))


def test_gpus_are_wanted_where_there_are_none() -> None:
    assert num_gpus() == 0
    with pytest.raises(RunError, match="no GPU"):
        RayGpuPool()

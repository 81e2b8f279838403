"""A whole run on a server that speaks S3: prepared, trained, killed, resumed, indexed, asked."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyprag.answering.answerer import Answerer
from polyprag.augment.corpus import augment_corpus
from polyprag.config import AugmentConfig, Config
from polyprag.config.files import load_config, save_config
from polyprag.encoding.reader import Encoding
from polyprag.retrieval.building.index import build_index
from sharding.ingest.prepare import prepare
from sharding.storage.files import exists, join, list_names, read_bytes


@dataclass(frozen=True)
class RemotePlace:
    """What `train_workers` wants of a workplace; its run is a URL."""

    run: str
    local: Any

    def overrides(self, **changed: Any) -> list[str]:
        return self.local.overrides(**changed)

    def metrics(self) -> list[dict[str, Any]]:
        lines = read_bytes(join(self.run, "logs", "metrics.jsonl")).decode().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def remote(s3: str, workplace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemotePlace:
    """The workplace's corpus, prepared and augmented on S3."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = join(s3, "runs", "one")
    source = str(workplace.base.parent / "passages.jsonl")
    prepare([source], join(run, "corpus"), partition_size=2)
    augment_corpus(run, Config(augment=AugmentConfig(num_qas=3)))
    return RemotePlace(run, workplace)


@pytest.mark.slow
def test_a_run_on_s3_is_trained_killed_resumed_indexed_and_asked(
    remote: RemotePlace, straight_run: Any, train_workers: Callable[..., None], tmp_path: Path
) -> None:
    workplace = straight_run(world_size=1).copy_to(tmp_path / "here")
    train_workers(remote, world_size=1, die_at=8)
    checkpoints = join(remote.run, "checkpoints")
    assert json.loads(read_bytes(join(checkpoints, "manifest.json")))["step"] == 5
    assert not exists(join(remote.run, "encoding"))
    train_workers(remote, world_size=1)

    lines = remote.metrics()
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    np.testing.assert_allclose([line["loss"] for line in lines], workplace.losses(), rtol=1e-6)
    ids = np.arange(11)
    np.testing.assert_allclose(
        Encoding.load(remote.run).rows(ids), Encoding.load(workplace.run).rows(ids), atol=1e-6
    )
    assert all(
        name.startswith("events.") for name in list_names(join(remote.run, "logs", "tensorboard"))
    )
    assert (
        len(list_names(join(remote.run, "logs", "tensorboard"))) == 2
    )  # before and after the kill
    # Shards were read through the cache, and nothing else was left on this machine.
    cached = {path.name for path in (tmp_path / "cache" / "polyprag").iterdir()}
    assert cached == {"shards", "size"}

    config = load_config([], workplace.overrides(index__lsa_dims=8))
    save_config(config, remote.run)
    assert load_config(run_dir=remote.run) == config
    build_index(remote.run, config)
    build_index(workplace.run, config)
    question = ["Where was Ada Lind born?"]
    for mode in ("rag", "poly"):
        there, here = (
            Answerer.open(run, config, modes=[mode]).answer(question, mode=mode)[0]
            for run in (remote.run, workplace.run)
        )
        assert there.text == here.text
        assert there.hits is not None and here.hits is not None
        np.testing.assert_array_equal(there.hits.ids, here.hits.ids)


@pytest.mark.slow
def test_the_commands_work_on_s3_with_two_ray_workers(
    s3: str,
    workplace: Any,
    tmp_path: Path,
    polyprag: Callable[..., subprocess.CompletedProcess[str]],
    polyprag_here: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run, questions = join(s3, "run"), join(s3, "questions.jsonl")

    def done(*arguments: str) -> str:
        # Those that start Ray in a process of their own.
        command = polyprag if arguments[0] == "encode" else polyprag_here
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    source = str(workplace.base.parent / "passages.jsonl")
    done("prepare", run, source, *workplace.overrides(), "data.partition_size=2")
    done("augment", run)
    done("encode", run, "cluster.workers=2")
    steps = len(read_bytes(join(run, "logs", "metrics.jsonl")).splitlines())
    done("encode", run, "cluster.workers=1", "train.epochs=2")  # goes on from the checkpoint
    again = len(read_bytes(join(run, "logs", "metrics.jsonl")).splitlines())
    assert again == 2 * steps
    done("index", run, "index.lsa_dims=8")
    answer = json.loads(done("ask", run, "Where was Ada Lind born?", "--json"))
    assert answer["mode"] == "poly" and len(answer["passages"]) == 3
    done("questions", run, "--out", questions)
    done("evaluate", run, "--questions", questions, "--out", join(s3, "results"), "--limit", "4")
    assert "results.json" in list_names(join(s3, "results"))
    assert "train:" in done("config", "show", "--run", run)

"""Commands as jobs of a real cluster of one node with a job server."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.jobs.client import is_loopback
from cluster.jobs.package import fill_job_directory
from polyprag.encoding.reader import Encoding
from polyprag.errors import ConfigError

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_encode_as_a_job_is_attached_to_stopped_and_gone_on_with(
    workplace: Any, start_head: Callable[..., str], polyprag_here: Run, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("train: {epochs: 400}\n")
    settings = [*workplace.overrides(), "cluster.workers=2"]
    settings.remove("train.epochs=1")
    at = ["--address", start_head(num_cpus=3, environment={"RAY_AUTH_MODE": "disabled"})]

    def submit(*more: str) -> subprocess.CompletedProcess[str]:
        return polyprag_here("submit", "encode", str(workplace.run), *settings, *at, *more)

    first = submit("--config", str(mine))
    assert first.returncode == 0, first.stderr
    job, _, told = first.stdout.splitlines()[0].partition(": ")
    assert told == "submitted"
    again = submit("--config", str(mine))
    assert again.returncode == 0 and f"{job}: there already" in again.stdout, again.stderr
    other = polyprag_here("submit", "index", str(workplace.run), *at)
    assert other.returncode == 2 and f"the job {job} works on it" in other.stderr

    deadline = time.monotonic() + 600
    while not (workplace.run / "checkpoints" / "manifest.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    logs = polyprag_here("jobs", "logs", job, *at).stdout
    assert "try 2 begins" not in logs, logs
    shown = polyprag_here("status", str(workplace.run))
    assert "at work       encode by " in shown.stdout and " of 7,200" in shown.stdout, shown.stdout
    assert polyprag_here("jobs", "stop", job, *at).returncode == 0
    while "stopped" not in polyprag_here("jobs", "status", job, *at).stdout.splitlines()[0]:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    step = json.loads((workplace.run / "checkpoints" / "manifest.json").read_text())["step"]
    followed = submit(f"train.epochs={step // 18 + 1}", "--follow")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "encoded" in followed.stdout and "succeeded" in followed.stdout
    steps = [line["step"] for line in workplace.metrics()]
    assert steps == list(range(1, len(steps) + 1))
    assert Encoding.load(workplace.run).manifest.trained.steps == len(steps)
    listed = json.loads(polyprag_here("jobs", "list", *at, "--json").stdout)
    assert [entry["status"] for entry in listed] == ["STOPPED", "SUCCEEDED"]

    refused = polyprag_here("jobs", "logs", "polyprag-encode-0-1", *at)
    assert refused.returncode == 2 and listed[-1]["id"] in refused.stderr


def test_mistakes_are_found_before_anything_is_submitted(
    workplace: Any, polyprag_here: Run
) -> None:
    for arguments, expected in (
        (["ask", str(workplace.run)], "can't be a job"),
        (["encode", str(workplace.run), "train.epoch=2"], "train.epochs"),
        (["encode", str(workplace.run), "--config", "nowhere"], "nowhere"),
        (["encode", str(workplace.run), "--env", "A"], "NAME=VALUE"),
        (["encode", str(workplace.run), "--address", "127.0.0.1:8265"], "http://HOST:8265"),
        (["encode", str(workplace.run), "--address", "http://127.0.0.1:1"], "ray start --head"),
    ):
        refused = polyprag_here("submit", *arguments)
        assert refused.returncode == 2 and expected in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr


def test_package_is_the_code_and_the_configs_that_are_named(tmp_path: Path) -> None:
    mine, directory = tmp_path / "mine.yaml", tmp_path / "job"
    mine.write_text("train: {epochs: 3}\n")
    directory.mkdir()
    arguments = ["--config", "quickstart", "--config", str(mine), f"--config={mine}", "a.b=c"]
    packed = fill_job_directory(directory, arguments)
    assert packed[:4] == ["--config", "quickstart", "--config", "config-1.yaml"]
    assert packed[4:] == ["--config=config-2.yaml", "a.b=c"]
    assert (directory / "config-1.yaml").read_text() == mine.read_text()
    # Ray takes 100 MB; most of it is the small model.
    assert sum(path.stat().st_size for path in directory.rglob("*")) < 15 * 2**20
    model = directory / "polyprag" / "models" / "tiny-base"
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names <= {path.name for path in model.iterdir()}
    assert not list(model.glob("*.py"))
    shown = subprocess.run(
        [sys.executable, "-m", "polyprag", "config", "show", *packed[:4]],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert "epochs: 3" in shown.stdout
    with pytest.raises(ConfigError, match="no config file nowhere"):
        fill_job_directory(tmp_path / "empty", ["--config", "nowhere"], with_code=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8265", True),
        ("http://localhost:8265", True),
        ("http://[::1]:8265", True),
        ("http://head:8265", False),
        ("https://10.0.0.1", False),
        ("http://localhost.example.org", False),
    ],
)
def test_loopback_is_told_from_other_addresses(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_local_paths_are_absolute_for_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyprag.cli.submit import _absolute
    from polyprag.config.files import load_config

    (tmp_path / "base").mkdir()
    (tmp_path / "new.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    arguments = ("new.jsonl", "s3://bucket/other.jsonl", "--map", "text=body", "train.epochs=2")
    here = load_config([], ["model.path=base"])
    assert _absolute(arguments, here) == [
        str(tmp_path / "new.jsonl"),
        *arguments[1:],
        f"model.path={tmp_path / 'base'}",
    ]
    assert _absolute(arguments, load_config([], ["model.path=org/name"]))[1:] == [*arguments[1:]]


def test_every_path_of_a_job_is_absolute_and_no_other_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyprag.cli.submit import _absolute
    from polyprag.config.files import load_config

    for name in ("base", "encoder", "queries", "reranker", "writer", "cache", "news", "gpt-4o"):
        (tmp_path / name).mkdir()
    (tmp_path / "zero.yaml").touch()
    (tmp_path / "news" / "a.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    settings = {
        "model.path": "base",
        "augment.model": "writer",
        "index.encoder_path": "encoder",
        "index.query_encoder_path": "queries",
        "retrieval.reranker": "reranker",
        "data.cache_dir": "cache",
        "deepspeed.config": "zero.yaml",
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    kinds = ["index.encoder=transformers", "augment.backend=hf"]
    made = _absolute((), load_config([], [*overrides, *kinds]))
    assert sorted(made) == sorted(f"{key}={tmp_path / name}" for key, name in settings.items())

    # Names of an endpoint's, a hub's or polyprag's own models aren't paths, whatever lies here.
    names = ["index.encoder=openai", "index.encoder_path=gpt-4o", "augment.backend=openai"]
    names += ["augment.model=gpt-4o", "model.path=polyprag:tiny", "retrieval.reranker=org/name"]
    assert _absolute((), load_config([], names)) == []

    words = ("news/*.jsonl", "--questions", "q.jsonl", "--out=results", "--limit", "3")
    assert _absolute(words, load_config([], ["model.path=org/name"])) == [
        str(tmp_path / "news" / "*.jsonl"),
        "--questions",
        str(tmp_path / "q.jsonl"),
        f"--out={tmp_path / 'results'}",  # which isn't there yet
        "--limit",
        "3",
    ]


def test_what_a_run_saves_is_found_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyprag.config.files import load_config, save_config

    (tmp_path / "reranker").mkdir()
    monkeypatch.chdir(tmp_path)
    save_config(load_config([], ["retrieval.reranker=reranker", "model.path=org/name"]), tmp_path)
    saved = load_config(run_dir=tmp_path)
    assert saved.retrieval.reranker == str(tmp_path / "reranker")
    assert saved.model.path == "org/name"

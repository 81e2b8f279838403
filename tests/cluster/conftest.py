"""A small augmented corpus, a random base model, and workers as plain processes."""

import contextlib
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.multiprocessing as mp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import distributed
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from polyprag.augment.corpus import augment_corpus
from polyprag.config import AugmentConfig, Config
from polyprag.config.files import load_config
from sharding.ingest.prepare import prepare

PEOPLE = [
    ("Ada Lind", "Oslo", "painter", 1901),
    ("Boris Mak", "Lima", "chemist", 1912),
    ("Carla Nuri", "Cairo", "singer", 1923),
    ("Dario Pek", "Kyoto", "lawyer", 1934),
    ("Edith Quon", "Quito", "sculptor", 1945),
    ("Felix Rahn", "Turin", "botanist", 1956),
    ("Greta Sol", "Perth", "dancer", 1967),
    ("Hugo Tam", "Lyon", "composer", 1978),
    ("Irene Ulm", "Accra", "jurist", 1989),
    ("Jonas Vik", "Delhi", "geologist", 1990),
    ("Klara Wen", "Bern", "novelist", 1891),
]


@dataclass(frozen=True)
class Workplace:
    """A prepared run and the settings to train it with."""

    run: Path
    base: Path

    def copy(self, name: str) -> "Workplace":
        """The same corpus as another run."""
        return self.copy_to(self.run.with_name(name))

    def copy_to(self, target: Path) -> "Workplace":
        """The same run elsewhere."""
        shutil.copytree(self.run, target)
        return Workplace(target, self.base)

    def overrides(self, **changed: Any) -> list[str]:
        """Settings as `section.key=value`, `__` for the dot."""
        values: dict[str, Any] = {
            "model__path": self.base,
            "data__lanes": 3,
            "data__microbatch": 2,
            "data__formats": "[passage_qa,qa]",  # more than one kind of example
            "experts__num": 4,
            "train__epochs": 1,
            "train__experts_lr": 0.01,
            "train__schedule": "constant",
            "train__loss_on": "all",
            "train__max_tokens": 600,
            "checkpoint__every_steps": 5,
        } | changed
        return [f"{key.replace('__', '.')}={value}" for key, value in values.items()]

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of the run's metrics file."""
        text = (self.run / "logs" / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def losses(self) -> list[float]:
        """The loss of every step."""
        return [line["loss"] for line in self.metrics()]


@pytest.fixture(scope="session")
def made_workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    directory = tmp_path_factory.mktemp("cluster")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "<pad>", "<eos>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    base = directory / "base"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
    ).save_pretrained(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=258,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                bos_token_id=None,
                eos_token_id=257,
                pad_token_id=256,
            )
        ).save_pretrained(base)
    source = directory / "passages.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number, (name, city, job, year) in enumerate(PEOPLE):
            text = f"{name} (born {year} in {city}) is a Swedish {job}."
            file.write(json.dumps({"id": f"p{number}", "title": name, "text": text}) + "\n")
    run = directory / "run"
    prepare([str(source)], run / "corpus", partition_size=2)
    augment_corpus(run, Config(augment=AugmentConfig(num_qas=3)))
    return Workplace(run, base)


@pytest.fixture
def workplace(made_workplace: Workplace, tmp_path: Path) -> Workplace:
    """A fresh run with its own copy of the corpus."""
    return made_workplace.copy_to(tmp_path / "run")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def start_head() -> Iterator[Callable[..., str]]:
    """Starts nodes with a job server of their own, and gives the servers' addresses.

    Every port is a free one, so that clusters of other tests don't matter; ended with all that
    they have started.
    """
    import psutil

    heads: list[tuple[subprocess.Popen[bytes], str]] = []

    def start(*more: str, num_cpus: int, environment: Mapping[str, str] | None = None) -> str:
        directory = tempfile.mkdtemp(prefix="ray-")  # names of sockets are short
        ports = {
            name: free_port()
            for name in ("", "dashboard-", "dashboard-agent-listen-", "ray-client-server-")
        }
        command = [
            str(Path(sys.executable).with_name("ray")),
            *("start", "--head", "--block", "--disable-usage-stats"),
            *("--dashboard-host=127.0.0.1", f"--temp-dir={directory}", f"--num-cpus={num_cpus}"),
            f"--object-store-memory={80 * 2**20}",
            *(f"--{name}port={port}" for name, port in ports.items()),
            *more,
        ]
        # A job's `python` is the one that the node's Ray would find.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        outside = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        outside["RAY_prestart_worker_first_driver"] = "0"
        with open(Path(directory) / "head.log", "wb") as log:
            head = subprocess.Popen(
                command,
                env={**outside, "PATH": path, **(environment or {})},
                stdout=log,
                stderr=log,
            )
        heads.append((head, directory))
        # These answer without a token; a job goes to the node's agent.
        for name, page in (("dashboard-", "gcs_healthz"), ("dashboard-agent-listen-", "healthz")):
            _wait_for(f"http://127.0.0.1:{ports[name]}/api/{page}", Path(directory) / "head.log")
        return f"http://127.0.0.1:{ports['dashboard-']}"

    try:
        yield start
    finally:
        for head, directory in heads:
            first = psutil.Process(head.pid)
            processes = [first, *first.children(recursive=True)]
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            head.wait()
            psutil.wait_procs(processes, timeout=10)
            shutil.rmtree(directory, ignore_errors=True)


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 600
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.2)


@pytest.fixture
def polyprag() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command line, with further environment variables; none of a Ray that is up here."""

    def run(
        *arguments: str, timeout: float = 900.0, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        outside = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        return subprocess.run(
            [str(Path(sys.executable).with_name("polyprag")), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={
                **outside,
                "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
                "NO_COLOR": "1",
                **(environment or {}),
            },
            check=False,
        )

    return run


def _worker(
    rank: int,
    world_size: int,
    port: int,
    environment: dict[str, str],
    task: Callable[..., None],
    args: Any,
) -> None:
    assert "preloaded" in sys.modules  # a module that the server can't import is passed over
    os.environ.clear()  # the server's are those of the first test
    os.environ.update(environment)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        task(*args)
    finally:
        distributed.destroy_process_group()
    # Not by way of the interpreter's end: a worker was once aborted after its task ("terminate
    # called without an active exception"), by what is not known; it could not be repeated.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@cache
def _end_other_server() -> None:
    """Ends the server that a benchmark's workers may have been forked from: it imported less."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def _spawn(
    task: Callable[..., None], *args: Any, world_size: int, within_s: float = 1200.0
) -> None:
    # Forked from one process that has imported everything: a worker's imports take seconds.
    _end_other_server()
    multiprocessing.set_forkserver_preload(["preloaded"])
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}  # DeepSpeed reads it when it is imported
    path = [environment.get("PYTHONPATH", ""), str(Path(__file__).parent)]
    with patch.dict(os.environ, environment, PYTHONPATH=os.pathsep.join(filter(None, path))):
        group = mp.start_processes(
            _worker,
            (world_size, free_port(), environment, task, args),
            nprocs=world_size,
            join=False,
            start_method="forkserver",
        )
    deadline = time.monotonic() + within_s
    while not group.join(timeout=1.0):
        if time.monotonic() > deadline:
            for process in group.processes:
                process.kill()
            raise AssertionError(f"the workers were still there after {within_s} s")


@pytest.fixture
def spawn() -> Callable[..., None]:
    """Runs `task(*args)` in every process of a group; an error in one, or a hang, is raised."""
    return _spawn


def train(run: Path, overrides: list[str]) -> None:
    """One worker's training; what `spawn` runs."""
    from cluster.training.train_encoding import train_encoding

    train_encoding(str(run), load_config([], overrides))


def train_until(run: Path, overrides: list[str], fatal_step: int) -> None:
    """The same, but every worker dies when it comes to a step.

    The checkpoint before it is durable then, so that tests know which one is the last.
    """
    import cluster.training.loop as training
    from cluster.training.train_encoding import train_encoding

    real = training.train_step

    def dying(*args: Any, step: int, **kwargs: Any) -> Any:
        if step == fatal_step:
            kwargs["before_error"]()
            os._exit(0)
        return real(*args, step=step, **kwargs)

    training.train_step = dying  # type: ignore[assignment]
    train_encoding(str(run), load_config([], overrides))


@pytest.fixture(scope="session")
def straight_run(
    made_workplace: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Workplace]:
    """Gives a run that was trained without an interruption, to compare with.

    Each is trained once for all tests, which must leave it as it is, or copy it.
    """
    trained: dict[str, Workplace] = {}

    def straight_run(*, world_size: int, **changed: Any) -> Workplace:
        key = json.dumps([world_size, changed], sort_keys=True)
        if key not in trained:
            place = made_workplace.copy_to(tmp_path_factory.mktemp("straight") / "run")
            _spawn(train, place.run, place.overrides(**changed), world_size=world_size)
            trained[key] = place
        return trained[key]

    return straight_run


@pytest.fixture
def train_workers(spawn: Callable[..., None]) -> Callable[..., None]:
    """Trains a workplace's run on so many workers, with changed settings."""

    def train_workers(
        place: Workplace, *, world_size: int, die_at: int | None = None, **changed: Any
    ) -> None:
        overrides = place.overrides(**changed)
        if die_at is None:
            spawn(train, place.run, overrides, world_size=world_size)
        else:
            spawn(train_until, place.run, overrides, die_at, world_size=world_size)

    return train_workers

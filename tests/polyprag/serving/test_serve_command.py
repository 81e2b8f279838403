"""`polyprag serve` as a process: what it says, what it refuses, how it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from polyprag.cli import main
from polyprag.config import Config
from polyprag.config.files import save_config
from polyprag.serving.server import open_port, url_of


@pytest.fixture(scope="module")
def run(
    encoded_run: tuple[Path, Config], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    original, config = encoded_run
    own = tmp_path_factory.mktemp("serve") / "wiki"
    shutil.copytree(original, own)
    save_config(config, own)
    return own


def started(run: Path, *options: str) -> tuple["subprocess.Popen[str]", str, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "polyprag", "serve", str(run), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    said = ""
    assert process.stderr is not None
    for line in process.stderr:
        said += line
        if found := re.search(r"interface: (\S+)/v1", line):
            return process, found[1], said
    raise AssertionError(f"ended with {process.wait()}: {said}")


def test_it_ends_when_told_and_answers_first_what_it_accepted(run: Path) -> None:
    process, url, said = started(run, "--max-tokens", "450")
    try:
        assert "serving wiki, wiki:closed, wiki:rag, wiki:poly, wiki:combine" in said
        body = {"model": "wiki", "prompt": "Anna", "max_tokens": 450, "ignore_eos": True}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        chunks = []
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: {"):
                    chunks.append(json.loads(line.removeprefix("data: ")))
                if len(chunks) == 3:
                    process.send_signal(signal.SIGTERM)
        assert chunks[-1]["usage"]["completion_tokens"] == 450
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert "ended: what was accepted was answered" in process.stderr.read()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--host", "0.0.0.0"), "give clients keys by --keys FILE or POLYPRAG_API_KEYS"),
        (("--name", "a:b"), "--name 'a:b': use letters"),
        (("--keys", "nowhere.txt"), "--keys nowhere.txt: "),
        (("--host", "192.0.2.1", "--keys", "keys.txt"), "--host 192.0.2.1 --port 8000: "),
    ],
)
def test_what_it_refuses(
    run: Path,
    options: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POLYPRAG_API_KEYS", raising=False)
    keys = tmp_path / "keys.txt"
    keys.write_text("one\n")
    keys.chmod(0o600)
    ran = CliRunner().invoke(main, ["serve", str(run), *options])
    assert ran.exit_code == 2 and says in ran.output


def test_a_port_that_is_taken_is_named(run: Path) -> None:
    with open_port("127.0.0.1", 0) as taken:
        number = url_of(taken).rpartition(":")[2]
        ran = CliRunner().invoke(main, ["serve", str(run), "--port", number])
    assert ran.exit_code == 2 and f"--port {number}: Address already in use" in ran.output


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["serve", str(tmp_path / "nothing"), "--port", "0"])
    assert ran.exit_code == 2 and "is no run: run `polyprag prepare` first" in ran.output


def test_a_run_with_nothing_to_answer_with_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "corpus", tmp_path / "run" / "corpus")
    shutil.copy(run / "config.yaml", tmp_path / "run")
    ran = CliRunner().invoke(main, ["serve", str(tmp_path / "run"), "--port", "0"])
    assert ran.exit_code == 2 and "nothing to answer with: run `polyprag index" in ran.output

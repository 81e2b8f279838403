"""Two replicas behind Ray Serve: answers, one that is killed, and the end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from polyprag.answering.engine import Engine
from polyprag.config import Config
from polyprag.config.files import save_config
from polyprag.serving.server import open_port, url_of

pytestmark = pytest.mark.slow
ASKED = "Where was Anna Smith born?"
BODY = {"model": "wiki:poly", "messages": [{"role": "user", "content": ASKED}]}


@pytest.fixture(scope="module")
def run(encoded_run: tuple[Path, Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    original, config = encoded_run
    own = tmp_path_factory.mktemp("replicas") / "wiki"
    shutil.copytree(original, own)
    save_config(config, own)
    return own


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    with open_port("127.0.0.1", 0) as free:
        port = url_of(free).rpartition(":")[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "polyprag", "serve", str(run), "--replicas", "2", "--port", port],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r"interface: (\S+)/v1", line):
            yield process, found[1]
            break
    else:
        raise AssertionError(f"ended with {process.wait()}: {said}")
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def replicas_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "ServeReplica" in " ".join(child.cmdline())]


def asked(url: str) -> tuple[int, str]:
    told = httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=120)
    if told.status_code != 200:
        return told.status_code, told.text
    return 200, str(told.json()["choices"][0]["message"]["content"])


def test_replicas_answer_go_and_come_again_and_end(
    served: tuple["subprocess.Popen[str]", str], encoded_run: tuple[Path, Config], run: Path
) -> None:
    process, url = served
    with Engine.open(run, encoded_run[1]) as engine:
        expected = engine.ask(ASKED).text
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: asked(url), range(16))) == [(200, expected)] * 16
        first, second = replicas_of(process)
        first.kill()
        # What it was answering is lost; nothing after it has been noticed.
        told = list(pool.map(lambda _: asked(url), range(24)))
    assert {text for status, text in told if status == 200} == {expected}
    assert all(status in (200, 500, 502, 503) for status, _ in told)
    end = time.monotonic() + 120
    while len(replicas_of(process)) < 2 or first.pid in {each.pid for each in replicas_of(process)}:
        assert time.monotonic() < end
        time.sleep(0.5)
    assert second.pid in {each.pid for each in replicas_of(process)}
    assert [asked(url) for _ in range(6)] == [(200, expected)] * 6
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json={**BODY, "stream": True}, timeout=60
    ) as stream:
        assert list(stream.iter_lines())[-2] == "data: [DONE]"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0
    assert process.stderr is not None
    assert "ended: what was accepted was answered" in process.stderr.read()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")

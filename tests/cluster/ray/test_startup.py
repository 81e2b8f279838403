"""What is in Ray's way when it starts or is joined is said in one line; its token is its user's."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from cluster.ray import startup
from cluster.ray.session import ray_session
from cluster.ray.startup import (
    RayStartError,
    join_errors,
    prepare_token,
    ray_directory,
    start_errors,
)
from polyprag.config import ClusterConfig
from polyprag.errors import RunError
from polyprag.sigterm import on_sigterm

_OPENS_A_SESSION = """
import sys
from cluster.ray.session import ray_session
from polyprag.config import ClusterConfig
with ray_session(ClusterConfig(workers=1)):
    import ray
    print(ray.get(ray.remote(lambda: 7).remote()))
"""


def session(**environment: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", _OPENS_A_SESSION],
        env={**outside, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(autouse=True)
def no_directories_of_ray_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_a_socket_s_path_has_as_many_bytes_as_linux_allows(tmp_path: Path) -> None:
    # What is bound here is as long as the longest that is let through, and one byte longer.
    fits = "/tmp/" + "x" * (startup._SOCKET_BYTES - len("/tmp/"))
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.bind(fits)
        finally:
            Path(fits).unlink(missing_ok=True)
        with pytest.raises(OSError, match="AF_UNIX path too long"):
            sock.bind(fits + "x")


def test_a_long_tmpdir_is_named_and_a_short_one_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ray_directory() == "/tmp/ray" and not capsys.readouterr().err
    # 107 bytes, less 64 for /session_<26>_<7>/sockets/plasma_store and 4 for /ray: 39 by hand.
    long = "/tmp/" + "é" * 17 + "x"
    assert len(long.encode()) == 40
    monkeypatch.setenv("TMPDIR", long)
    assert ray_directory() == "/tmp/ray"
    said = capsys.readouterr().err
    assert said.startswith(f"TMPDIR={long} is too long") and "RAY_TMPDIR=DIR" in said
    assert len(said.splitlines()) == 1
    monkeypatch.setenv("TMPDIR", long[:-1])
    assert ray_directory() == f"{long[:-1]}/ray" and not capsys.readouterr().err
    monkeypatch.setenv("RAY_TMPDIR", long)
    with pytest.raises(RunError, match=r"^RAY_TMPDIR=.* of 39 bytes at most, such as /tmp$"):
        ray_directory()


def test_a_full_disk_and_a_file_in_the_way_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40 - 2**20, 2**20))
        with pytest.raises(RunError, match=r"1 MB are free where Ray writes its logs"):
            ray_directory()
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null")
    with pytest.raises(RunError, match=r"^/dev/null: Ray can't write there.*RAY_TMPDIR=DIR$"):
        ray_directory()


def test_a_token_is_for_its_user_only_from_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    directory, token = tmp_path / ".ray", tmp_path / ".ray" / "auth_token"
    seen: list[int] = []
    real = os.link

    def link(source: str, target: Any) -> None:
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        assert len(Path(source).read_text()) == 64  # whole before it has its name
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    before = os.umask(0)
    try:
        threads = [threading.Thread(target=prepare_token) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        os.umask(before)
    assert seen and set(seen) == {0o600}
    made = token.read_text()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [path.name for path in directory.iterdir()] == ["auth_token"]

    token.chmod(0o644)  # as Ray has left it
    directory.chmod(0o755)
    prepare_token()
    assert token.read_text() == made
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_no_token_is_made_where_none_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (
        ("RAY_AUTH_MODE", "disabled"),
        ("RAY_AUTH_TOKEN", "t"),
        ("RAY_AUTH_TOKEN_PATH", "f"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            prepare_token()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".ray").write_text("in the way")
    with pytest.raises(RunError, match=r"\.ray.*RAY_AUTH_TOKEN_PATH=FILE$"):
        prepare_token()


@pytest.mark.slow
def test_ray_starts_beside_a_long_tmpdir_with_the_token_that_was_made(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 60)
    long.mkdir()
    done = session(TMPDIR=str(long), HOME=str(tmp_path))
    assert done.returncode == 0 and done.stdout == "7\n", done.stderr
    assert f"TMPDIR={long} is too long" in done.stderr and "Traceback" not in done.stderr
    token = tmp_path / ".ray" / "auth_token"
    assert len(token.read_text()) >= 32
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert "Token authentication" not in done.stderr  # all is as it should be


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            Exception(
                "The current node timed out during startup. This could happen because some of the "
                "raylet failed to startup or the GCS has become overloaded."
            ),
            75,
            "the machine is busy",
        ),
        (TimeoutError("Timed out after 60 seconds while waiting for node to startup."), 75, "busy"),
        (OSError(28, "No space left on device", "/tmp/ray/session_1"), 2, "/tmp/ray/session_1: No"),
        (RuntimeError("bind: Address already in use\nport 6379"), 2, "port 6379): end what uses"),
        (ValueError("object store:\n too large"), 2, "object store: too large (its logs are in"),
    ],
)
def test_what_ray_raises_when_it_starts_becomes_a_line(
    error: Exception, status: int, words: str
) -> None:
    with pytest.raises(RunError) as raised, start_errors("/tmp/ray"):
        raise error
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert raised.value.exit_status == status
    assert isinstance(raised.value, RayStartError) == (status == 75)


def test_a_cluster_s_traceback_becomes_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_knock", lambda address: None)
    text = (
        "Failed to connect to GCS. Last connection error: Traceback (most recent call last):\n"
        '  File "node.py", line 996, in _init_gcs_client\n    client = GcsClient(\n'
        "ray.exceptions.RpcError: Timed out while waiting for GCS to become available.\n"
    )
    with pytest.raises(RunError) as raised, join_errors("head:6379"):
        assert os.environ[startup._JOIN_TRIES] == "3"
        raise RuntimeError(text)
    assert startup._JOIN_TRIES not in os.environ
    said = str(raised.value)
    assert "answers there (ray.exceptions.RpcError: Timed out while waiting for GCS" in said
    assert said.startswith("cluster.address='head:6379': no Ray cluster") and "\n" not in said


@pytest.mark.slow
def test_another_ray_and_a_wrong_token_are_told_apart(
    start_head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for file, letter in ((right, "a"), (wrong, "b")):
        file.touch(mode=0o600)
        file.write_text(letter * 32)
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(right)}
    start_head(f"--port={port}", num_cpus=1, environment=environment)

    def join(**environment: str) -> str:
        code = (
            "import sys, ray\n"
            "from cluster.ray.session import ray_session\n"
            "from polyprag.config import ClusterConfig\n"
            "ray.__version__ = sys.argv[2]\n"
            "with ray_session(ClusterConfig(address=sys.argv[1])):\n"
            "    pass\n"
        )
        version = environment.pop("version", ray.__version__)
        outside = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-c", code, f"127.0.0.1:{port}", version],
            env={**outside, **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 1  # with a traceback here, which the command line leaves away
        return done.stderr.strip().splitlines()[-1]

    said = join(**environment, version="1.2.3")
    assert "Version mismatch" in said and "install the cluster's versions of Ray" in said
    for refused in (
        {"RAY_AUTH_MODE": "disabled"},
        {**environment, "RAY_AUTH_TOKEN_PATH": f"{wrong}"},
    ):
        assert "RAY_AUTH_TOKEN_PATH" in join(**refused)


def test_sigterm_while_ray_starts_is_told_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own handling, which it sets early in `init`, would end the process with status 15."""

    def start_and_be_told(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    class ToldError(Exception):
        pass

    def told() -> None:
        raise ToldError

    monkeypatch.setattr("ray.init", start_and_be_told)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    before = signal.getsignal(signal.SIGTERM)
    with on_sigterm(told), pytest.raises(ToldError), ray_session(ClusterConfig()):
        pytest.fail("Ray didn't start")
    assert signal.getsignal(signal.SIGTERM) is before

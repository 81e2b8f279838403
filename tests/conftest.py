"""What all tests share: quiet threads, an S3 server, command lines, and killed processes."""

import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from click.testing import CliRunner
from hypothesis import settings

# Threads gain nothing on models of this size, and lose much where the cores are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A Ray that a test starts would start a process for each CPU, which hardly any test takes.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
# Whom the user trusts is a file of his own, which tests leave alone.
os.environ["POLYPRAG_STATE_DIR"] = tempfile.mkdtemp(prefix="polyprag-state-")
# A busy machine makes any single example slow; what a test may cost in all is bounded instead.
settings.register_profile("polyprag", deadline=None, max_examples=50)
settings.load_profile("polyprag")

S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server on the loopback interface."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket of the test's own; processes that it starts can open it too."""
    import boto3

    for name, value in {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


class KilledError(BaseException):
    """Stands for the end of the process: nothing on the way takes it for an error."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], bool]:
    """Runs a function as if its process ended after so many renames and deletions of files.

    Returns whether it came to that. A killed process does nothing more, so all later ones fail too.
    """

    def run(survives: int, function: Callable[[], object]) -> bool:
        left = survives

        def guarded(operation: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal left
                if left == 0:
                    raise KilledError
                left -= 1
                return operation(*args, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("replace", "rename", "remove", "unlink", "rmdir"):
                patch.setattr(os, name, guarded(getattr(os, name)))
            try:
                function()
            except KilledError:
                return True
            return False

    return run


@pytest.fixture
def polyprag_here() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command line in this process: what it imports is there already."""
    from polyprag.cli import main

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        with patch.dict(os.environ):
            os.environ.pop("RAY_ADDRESS", None)
            done = CliRunner().invoke(main, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run

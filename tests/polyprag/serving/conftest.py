"""A server in this process, of a small run."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from polyprag.answering.engine import Engine
from polyprag.config import Config
from polyprag.serving.app import make_app
from polyprag.serving.limits import RequestLimits
from polyprag.serving.server import open_port, url_of
from polyprag.serving.service import Service


@dataclass(frozen=True)
class Serving:
    """A server that runs: where it is, and what is behind it."""

    url: str
    service: Service
    run: Path

    @property
    def engine(self) -> Engine:
        return self.service.engine


MakeServer = Callable[..., Serving]


@contextmanager
def _running(app: Any) -> Iterator[str]:
    with open_port("127.0.0.1", 0) as port:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [port]}, daemon=True)
        thread.start()
        url = url_of(port)
        assert httpx.get(f"{url}/ready", timeout=60).status_code == 200
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(timeout=60)
            assert not thread.is_alive()


@contextmanager
def _serving(
    run: Path,
    config: Config,
    *,
    limits: RequestLimits | None = None,
    most: int = 8,
    reload_seconds: float = 60.0,
    **app: Any,
) -> Iterator[Serving]:
    engine = Engine.open(run, config, most=most)
    service = Service(
        engine, run_dir=run, name="wiki", limits=limits, reload_seconds=reload_seconds
    )
    with _running(make_app(service, **app)) as url:
        yield Serving(url, service, run)


@pytest.fixture(scope="session")
def served_run(
    encoded_run: tuple[Path, Config], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Config]:
    """A copy that tests may not change, with a little more room for answers."""
    original, config = encoded_run
    run = tmp_path_factory.mktemp("served") / "run"
    shutil.copytree(original, run)
    return run, config


@pytest.fixture(scope="module")
def serving(served_run: tuple[Path, Config]) -> Iterator[Serving]:
    """One server for tests that leave it as it is."""
    with _serving(*served_run) as server:
        yield server


@pytest.fixture
def make_server(served_run: tuple[Path, Config]) -> Iterator[MakeServer]:
    """Makes servers of their own: settings of `_serving`, `answering=`, or another `run=`."""
    with ExitStack() as stack:

        def make(*, run: Path | None = None, abstain: str = "", **settings: Any) -> Serving:
            own, config = served_run
            if abstain:
                config = replace(config, answering=replace(config.answering, abstain=abstain))
            return stack.enter_context(_serving(run or own, config, **settings))

        yield make

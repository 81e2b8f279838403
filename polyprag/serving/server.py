"""One machine's server: an app on a port, until it is told to end."""

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from polyprag.errors import ConfigError


def open_port(host: str, port: int) -> socket.socket:
    """Takes a port before anything that takes long; 0 takes a free one.

    Raises:
        ConfigError: it can't be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: {error.strerror or error}") from error


def url_of(port: socket.socket) -> str:
    """Returns where it is asked."""
    host, number, *_ = port.getsockname()
    return f"http://{f'[{host}]' if ':' in host else host}:{number}"


def run_server(
    app: FastAPI,
    port: socket.socket,
    *,
    grace_seconds: float,
    access_log: bool,
    on_started: Callable[[], None],
) -> None:
    """Serves until SIGTERM or Ctrl-C, and then answers what was accepted.

    Args:
        app: to serve.
        port: on which.
        grace_seconds: for the requests that were accepted; a second signal ends them at once.
        access_log: whether each request is a line on stderr.
        on_started: is called when requests are taken.
    """
    config = uvicorn.Config(
        app,
        log_level="info" if access_log else "warning",
        access_log=access_log,
        timeout_graceful_shutdown=int(grace_seconds),
        server_header=False,
    )
    sys.setswitchinterval(_SWITCH_SECONDS)
    _Server(config, on_started).run(sockets=[port])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends by signals as uvicorn does, but doesn't raise them again: it did what they asked."""
        before = {each: signal.signal(each, self.handle_exit) for each in _SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


# A tenth of Python's own: a thread that prepares a request would hold up the one that decodes after
# each of its operations.
_SWITCH_SECONDS = 0.0005
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

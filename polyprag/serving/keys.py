"""Who may ask: keys, hosts, and how much a body may have, before anything else is looked at."""

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyprag.errors import ConfigError
from polyprag.serving.failures import ApiError

KEYS_VARIABLE = "POLYPRAG_API_KEYS"
OPEN_PATHS = ("/health", "/ready", "/", "/favicon.ico")
OPEN_FOLDER = "/page/"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def read_keys(file: Path | None) -> list[bytes]:
    """Returns the digests of a file's keys, a line each, and of those of `POLYPRAG_API_KEYS`.

    Raises:
        ConfigError: the file can't be read, others may read it, or it has no key.
    """
    keys = [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",")]
    if file is not None:
        try:
            mode = file.stat().st_mode
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--keys {file}: {error}") from error
        if stat.S_IMODE(mode) & 0o077:
            raise ConfigError(f"--keys {file}: others may read it; run `chmod 600 {file}`")
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not found:
            raise ConfigError(f"--keys {file}: has no key; give one a line")
        keys += found
    return [key_digest(key.encode()) for key in keys if key]


class Gate:
    """ASGI middleware that lets through what has a key and isn't too large."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        key_digests: Iterable[bytes],
        max_body_bytes: int,
        hosts: Sequence[str] | None = None,
    ) -> None:
        """Takes what is asked for.

        Args:
            app: behind it.
            key_digests: of the keys of which each request must have one; none: nobody is asked.
            max_body_bytes: of a request.
            hosts: names by which the server may be addressed; None: any. With the names of this
                machine alone, a page from elsewhere can't have a browser ask it by a name of its
                own.
        """
        self._app, self._max_body_bytes, self._hosts = app, max_body_bytes, hosts
        self._digests = list(key_digests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise HTTPException(413, self._too_large)
            return message

        await self._app(scope, bounded, send)

    @property
    def _too_large(self) -> str:
        return f"the body has more than the {self._max_body_bytes:,} bytes that are taken"

    def _refusal(self, path: str, headers: Headers) -> ApiError | None:
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            names = ", ".join(self._hosts)
            return ApiError(421, f"this server goes by {names}; start it with --host for others")
        is_open = path in OPEN_PATHS or path.startswith(OPEN_FOLDER)
        if self._digests and not is_open and not self._knows(headers.get("authorization", "")):
            return ApiError(
                401,
                "give one of the server's keys: Authorization: Bearer KEY",
                code="invalid_api_key",
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            return ApiError(413, self._too_large)
        return None

    def _knows(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        given = key_digest(key.strip().encode("latin-1"))  # the bytes that came
        same = [hmac.compare_digest(given, known) for known in self._digests]  # all, in equal time
        return scheme.lower() == "bearer" and any(same)


def key_digest(key: bytes) -> bytes:
    """Returns what stands for a key wherever it is only compared."""
    return hashlib.sha256(key).digest()


def _host(given: str) -> str:
    """Returns a Host header's name, without its port."""
    if given.startswith("["):
        return given[1:].partition("]")[0]
    return given.partition(":")[0].lower()

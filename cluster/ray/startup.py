"""What Ray needs before it starts or is joined, and its failures to do so, in a line each."""

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyprag.errors import OF_THE_MACHINE, TRY_AGAIN, PolypragError, RunError
from polyprag.streams import notice

_SOCKET_BYTES = 107  # that the path of a Unix socket may have
_SESSION = (
    "/session_2026-11-28_12-00-00_123456_1234567/sockets/plasma_store"  # the longest in Ray's
)
_SHORT_DIR = "/tmp/ray"
_LEAST_FREE = 64 * 2**20  # Ray's logs and bookkeeping take some megabytes
_KNOCK_S = 20.0
_JOIN_TRIES = "RAY_gcs_server_port_wait_time_s"  # by default 20, of up to 40 s each


class RayStartError(RunError):
    """Ray didn't start in time."""

    exit_status = TRY_AGAIN


def ray_directory() -> str:
    """Returns where a Ray that is started here may keep its session: logs and sockets.

    Raises:
        RunError: there is no room, or the user has named a directory that can't be used.
    """
    variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    chosen = os.environ.get(variable, "/tmp")
    directory = os.path.join(chosen, "ray")
    length = len(os.fsencode(directory)) + len(_SESSION)
    if length > _SOCKET_BYTES:
        most = _SOCKET_BYTES - len(_SESSION) - len("/ray")
        too_long = f"{variable}={chosen} is too long for the paths of Ray's sockets"
        if variable == "RAY_TMPDIR":
            raise RunError(f"{too_long}: name a directory of {most} bytes at most, such as /tmp")
        directory = _SHORT_DIR
        notice(f"{too_long}: it works in {directory}; RAY_TMPDIR=DIR names another short directory")
    there = next(path for path in [Path(directory), *Path(directory).parents] if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise RunError(
            f"{there}: Ray can't write there; name another directory with RAY_TMPDIR=DIR"
        )
    free = shutil.disk_usage(there).free
    if free < _LEAST_FREE:
        raise RunError(
            f"{there}: {free / 2**20:.0f} MB are free where Ray writes its logs, too few: make "
            "room, or name another directory with RAY_TMPDIR=DIR"
        )
    return directory


def prepare_token() -> None:
    """Makes Ray's authentication token where there is none, for its user only.

    Ray itself writes it for all to read. Who has it may run programs on any Ray that is started
    here without another.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    directory = Path.home() / ".ray"
    token = directory / "auth_token"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, mode in ((directory, 0o700), (token, 0o600)):
            if path.exists() and path.stat().st_uid == os.getuid():
                path.chmod(mode)
        if not token.exists():
            descriptor, new = tempfile.mkstemp(dir=directory)  # 0600
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_hex(32))
                with contextlib.suppress(FileExistsError):
                    os.link(new, token)  # whole, or that of another command
            finally:
                os.unlink(new)
    except OSError as error:
        raise RunError(
            f"{error.filename or token}: {error.strerror}: Ray's token can't be kept there; name a "
            "file that holds one with RAY_AUTH_TOKEN_PATH=FILE"
        ) from error


@contextmanager
def start_errors(directory: str) -> Iterator[None]:
    """Turns what `ray.init` raises when it starts a Ray into one line.

    Args:
        directory: see `ray_directory`.

    Raises:
        RayStartError: it took too long.
        RunError: anything else.
    """
    try:
        yield
    except PolypragError:
        raise
    except Exception as error:
        text = _in_one_line(error)
        logs = f"its logs are in {directory}/session_latest/logs"
        if isinstance(error, TimeoutError) or "timed out" in text.lower():
            raise RayStartError(
                "Ray didn't start in the time that it gives itself: the machine is busy, or short "
                f"of memory; run the same command again when less is at work ({logs})"
            ) from error
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            raise RunError(f"{error.filename or directory}: {error.strerror}") from error
        if "address already in use" in text.lower():
            raise RunError(
                f"a port that Ray needs is in use ({text}): end what uses it, or unset the RAY_* "
                "variables that choose ports"
            ) from error
        raise RunError(f"Ray didn't start: {text} ({logs})") from error


@contextmanager
def join_errors(address: str) -> Iterator[None]:
    """Turns what `ray.init` raises when it joins a cluster into one line; has it give up in time.

    Args:
        address: of the cluster.

    Raises:
        RunError: says what is in the way.
    """
    where = f"cluster.address={address!r}"
    before = os.environ.get(_JOIN_TRIES)
    os.environ.setdefault(_JOIN_TRIES, "3")
    try:
        _knock(address)
        yield
    except PolypragError:
        raise
    except Exception as error:
        text = _in_one_line(error)
        if "version mismatch" in str(error).lower():
            raise RunError(
                f"{where}: {text}: install the cluster's versions of Ray and Python here, or have "
                "it run the command (`polyprag submit`)"
            ) from error
        if type(error).__name__ == "AuthenticationError" or "auth" in text.lower():
            raise RunError(
                f"{where}: the cluster wants its token: set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN_PATH=FILE"
            ) from error
        raise RunError(
            f"{where}: no Ray cluster answers there ({text}); start one (`ray start --head`), give "
            "its token where it has one (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH), or leave "
            "cluster.address and RAY_ADDRESS unset to start one here"
        ) from error
    finally:
        if before is None:
            os.environ.pop(_JOIN_TRIES, None)


def _knock(address: str) -> None:
    """Raises `OSError` when nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _in_one_line(error: Exception) -> str:
    """Returns the last line of what an error says, which is where Ray puts another's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Traceback (most recent call last):" in str(error):
        return lines[-1]
    return " ".join(lines) or type(error).__name__

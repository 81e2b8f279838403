"""Asking a run's workers for a checkpoint now, by a file that worker 0 finds.

Whoever sees the run's directory can ask: a driver that is told to end, a node's preStop hook, a
batch system's trap, `polyprag checkpoint`. A request is a file of its own in `RUN/requests`; worker
0 deletes it once the checkpoint that it asks for is durable, which is the answer.
"""

import logging
import secrets
import socket
import threading
import time
from enum import IntEnum
from typing import Annotated

import msgspec

from sharding.errors import FileError
from sharding.storage.closing import Closing
from sharding.storage.decoding import decode, strict_json
from sharding.storage.files import atomic_write, exists, join, list_names, read_bytes, remove
from sharding.storage.urls import is_local

REQUESTS_DIRECTORY = "requests"  # in a run
_SUFFIX = ".json"
_LOG = logging.getLogger(__name__)


class Request(IntEnum):
    """What workers are asked for; of several requests the greatest counts."""

    NONE = 0
    CHECKPOINT = 1  # and to go on
    RESTART = 2  # a checkpoint, and to end so that they can be placed anew
    STOP = 3  # a checkpoint, and to end


class RequestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request.

    Attributes:
        request: the value of a `Request`.
        by: who asks, for people.
        lease: of the command that is asked; None asks whoever finds it.
    """

    request: Annotated[int, msgspec.Meta(ge=1, le=3)]
    by: Annotated[str, msgspec.Meta(max_length=1000)]
    lease: int | None


def request_checkpoint(
    run_dir: str, request: Request, *, by: str, lease: int | None, timeout_s: float
) -> bool:
    """Asks for a checkpoint and waits until it is durable.

    Args:
        run_dir: a run whose workers train.
        request: what for.
        by: who asks; the host's name is added.
        lease: the number of the lease under which they train.
        timeout_s: at most; the request is taken back then.

    Returns:
        Whether it was made.

    Raises:
        FileError: the run can't be written to.
    """
    url = join(run_dir, REQUESTS_DIRECTORY, f"{secrets.token_hex(8)}{_SUFFIX}")
    content = RequestFile(int(request), f"{by} on {socket.gethostname()}", lease)
    deadline = time.monotonic() + timeout_s
    with atomic_write(url, durable=False) as file:
        file.write(strict_json(content))
    pause = 0.1 if is_local(run_dir) else 1.0
    while exists(url):
        if time.monotonic() > deadline:
            remove(url)
            return False
        time.sleep(pause)
    return True


class RequestReader(Closing):
    """Looks for requests in a thread, so that a step costs nothing; for worker 0."""

    def __init__(self, run_dir: str, *, lease: int | None) -> None:
        """Begins to look.

        Args:
            run_dir: of the run.
            lease: the number of the lease under which this trains; requests to others are deleted.
        """
        self._directory, self._lease = join(run_dir, REQUESTS_DIRECTORY), lease
        self._seconds = 0.5 if is_local(run_dir) else 10.0
        self._found: dict[str, RequestFile] = {}
        self._told: dict[str, RequestFile] = {}  # those that the next answer is for
        self._done: set[str] = set()  # deleted, though a listing may still have them
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="requests", daemon=True)
        self._thread.start()

    def pending(self) -> Request:
        """Returns the greatest request that hasn't been answered."""
        self._told = {k: v for k, v in self._found.copy().items() if k not in self._done}
        return Request(max((file.request for file in self._told.values()), default=0))

    def answer(self) -> str:
        """Deletes the requests that the last `pending` saw: their checkpoint is durable.

        Returns:
            Who had asked.
        """
        asked = ", ".join(sorted({file.by for file in self._told.values()}))
        for name in self._told:
            self._delete(name)
        self._told = {}
        return asked

    def close(self) -> None:
        """Looks no longer."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            try:
                self._look_once()
            except FileError as error:  # the storage may come back
                _LOG.warning("%s", error)
            if self._stop.wait(self._seconds):
                return

    def _look_once(self) -> None:
        for name in list_names(self._directory):
            known = name in self._found or name in self._done
            if known or not name.endswith(_SUFFIX) or name.startswith("."):
                continue
            url = join(self._directory, name)
            if not exists(url):  # taken back, or answered, since it was listed
                continue
            try:
                file = decode(read_bytes(url), RequestFile)
            except ValueError as error:
                _LOG.warning("%s: not a request (%s)", url, error)
                self._delete(name)
                continue
            if file.lease in (None, self._lease):
                self._found[name] = file
            else:
                self._delete(name)

    def _delete(self, name: str) -> None:
        self._done.add(name)
        try:
            remove(join(self._directory, name))
        except FileError as error:
            _LOG.warning("%s", error)

"""Asking a run's workers for a checkpoint now, by a file that worker 0 finds.

Whoever sees the run's directory can ask: a driver that is told to end, a node's preStop hook, a
batch system's trap, `polyprag checkpoint`. A request is a file of its own in `RUN/requests`. Once
the checkpoint that it asks for is durable, worker 0 answers with a second file, which says under
which lease and of which step it was made; nothing else counts as an answer. Whoever asked takes
both away. Requests to the workers of another lease stay untouched: their lease's end tells those
who wait that nobody will answer.
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
from sharding.storage.lease import LEASE_DIRECTORY, check_lease
from sharding.storage.urls import is_local
from sharding.storage.versioned import Natural

REQUESTS_DIRECTORY = "requests"  # in a run
_SUFFIX, _ANSWER = ".json", "answer-"
_ANSWER_S = 600.0  # an answer that lies there for so long isn't waited for
_LOG = logging.getLogger(__name__)


class TrainingRequest(IntEnum):
    """What workers are asked for; of several requests the greatest counts."""

    NONE = 0
    CHECKPOINT = 1  # and to go on
    RESTART = 2  # a checkpoint, and to end so that they can be placed anew
    STOP = 3  # a checkpoint, and to end


class RequestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request.

    Attributes:
        request: the value of a `TrainingRequest`.
        by: who asks, for people.
        lease: of the command that is asked; None asks whoever finds it.
    """

    request: Annotated[int, msgspec.Meta(ge=1, le=3)]
    by: Annotated[str, msgspec.Meta(max_length=1000)]
    lease: int | None


class _AnswerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer: under which lease a checkpoint was made that was asked for, and of which step."""

    lease: int | None
    step: Natural


def request_checkpoint(
    run_dir: str, request: TrainingRequest, *, by: str, lease: int | None, timeout_s: float
) -> int | None:
    """Asks for a checkpoint and waits until it is durable.

    Args:
        run_dir: a run whose workers train.
        request: what for.
        by: who asks; the host's name is added.
        lease: the number of the lease under which they train.
        timeout_s: at most; the request is taken back then.

    Returns:
        The step that the checkpoint is of; None where none was made in time.

    Raises:
        LeaseError: another command has taken the run over; those who were asked write no more.
        FileError: the run can't be written to.
    """
    name = f"{secrets.token_hex(8)}{_SUFFIX}"
    url = join(run_dir, REQUESTS_DIRECTORY, name)
    content = RequestFile(int(request), f"{by} on {socket.gethostname()}", lease)
    deadline = time.monotonic() + timeout_s
    with atomic_write(url, durable=False) as file:
        file.write(strict_json(content))
    pause = 0.1 if is_local(run_dir) else 1.0
    answer = _answer_url(run_dir, name)
    told = ""
    try:
        while True:
            try:
                step = _step_of(answer, lease=lease)
                if step is None and lease is not None:
                    check_lease(join(run_dir, LEASE_DIRECTORY), lease)
            except FileError as error:  # the storage may come back
                step = None
                if str(error) != told:
                    told = str(error)
                    _LOG.warning("%s", told)
            if step is not None or time.monotonic() > deadline:
                return step
            time.sleep(pause)
    finally:
        for each in (url, answer):
            try:
                remove(each)
            except FileError as error:
                _LOG.warning("%s", error)


def _answer_url(run_dir: str, name: str) -> str:
    return join(run_dir, REQUESTS_DIRECTORY, f"{_ANSWER}{name}")


def _step_of(answer: str, *, lease: int | None) -> int | None:
    """Returns the step of a checkpoint that an answer says was made; None without an answer."""
    if not exists(answer):
        return None
    try:
        found = decode(read_bytes(answer), _AnswerFile)
    except ValueError as error:
        raise FileError(f"{answer}: not an answer to a request ({error}); ask again") from error
    return found.step if lease is None or found.lease == lease else None


class RequestReader(Closing):
    """Looks for requests in a thread, so that a step costs nothing; for worker 0."""

    def __init__(self, run_dir: str, *, lease: int | None) -> None:
        """Begins to look.

        Args:
            run_dir: of the run.
            lease: the number of the lease under which this trains; requests to others are left
                alone.
        """
        self._run_dir, self._lease = run_dir, lease
        self._directory = join(run_dir, REQUESTS_DIRECTORY)
        self._seconds = 0.5 if is_local(run_dir) else 10.0
        self._found: dict[str, RequestFile] = {}
        self._told: dict[str, RequestFile] = {}  # those that the next answer is for
        self._done: set[str] = set()  # answered, of another lease, or damaged
        self._answers: dict[str, float] = {}  # since when they lie there
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="requests", daemon=True)
        self._thread.start()

    def pending(self) -> TrainingRequest:
        """Returns the greatest request that hasn't been answered."""
        self._told = {k: v for k, v in self._found.copy().items() if k not in self._done}
        return TrainingRequest(max((file.request for file in self._told.values()), default=0))

    def answer(self, step: int) -> str:
        """Answers the requests that the last `pending` saw: their checkpoint is durable.

        Args:
            step: that it is of.

        Returns:
            Who had asked.
        """
        asked = ", ".join(sorted({file.by for file in self._told.values()}))
        data = strict_json(_AnswerFile(self._lease, step))
        for name in self._told:
            self._done.add(name)
            try:
                with atomic_write(_answer_url(self._run_dir, name), durable=False) as file:
                    file.write(data)
                # Workers that start again mustn't obey it once more.
                remove(join(self._directory, name))
            except (FileError, OSError) as error:  # who asked goes on waiting, then gives up
                _LOG.warning("%s", error)
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
            except (FileError, OSError) as error:  # the storage may come back
                _LOG.warning("%s", error)
            if self._stop.wait(self._seconds):
                return

    def _look_once(self) -> None:
        names = [name for name in list_names(self._directory) if name.endswith(_SUFFIX)]
        for name in names:
            is_new = name not in self._found and name not in self._done
            if is_new and not name.startswith((_ANSWER, ".")):
                self._read(name)
        self._tidy([name for name in names if name.startswith(_ANSWER)])

    def _read(self, name: str) -> None:
        url = join(self._directory, name)
        if not exists(url):  # taken back, or answered, since it was listed
            return
        try:
            file = decode(read_bytes(url), RequestFile)
        except ValueError as error:
            _LOG.warning("%s: not a request (%s); it is passed over", url, error)
            self._done.add(name)
            return
        if file.lease in (None, self._lease):
            self._found[name] = file
        else:
            self._done.add(name)

    def _tidy(self, answers: list[str]) -> None:
        """Deletes answers that nobody has taken for long; who asked has died."""
        now = time.monotonic()
        self._answers = {name: self._answers.get(name, now) for name in answers}
        for name, since in self._answers.items():
            if now - since > _ANSWER_S:
                remove(join(self._directory, name))

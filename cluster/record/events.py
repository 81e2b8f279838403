"""What happened to a run, one small file for each event: starts, resumptions, failures.

An object store can't append, and several machines write, so every event has a file of its own in
`RUN/logs/events`, whose name begins with its time.
"""

import logging
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from sharding.errors import FileError
from sharding.printable import without_passwords
from sharding.storage.decoding import decode, strict_json
from sharding.storage.files import (
    TEMPORARY_NAME,
    atomic_write,
    join,
    list_names,
    read_bytes,
    remove,
)
from sharding.storage.versioned import Natural, UnixSeconds

EVENTS_DIRECTORY = "logs/events"
_MAX_DETAIL = 2000  # characters
_LOG = logging.getLogger(__name__)

Kind = Literal[
    "started",
    "teaching",
    "taught",
    "training",
    "checkpoint",
    "recovered",
    "failed",
    "interrupted",
    "finished",
]
_NAMING = threading.Lock()
_last = 0  # milliseconds in the name of this process's newest event


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something that happened.

    Attributes:
        time: Unix seconds, by the clock of the machine.
        kind: `started`: a command began; `teaching`: the teacher is asked, if it hasn't said
            all; `taught`: it has; `training`: a group of workers begins or begins again;
            `checkpoint`: one that was asked for is made; `recovered`: training goes on from the
            checkpoint before a damaged one; `failed`: a worker, or all; `interrupted`:
            by the user or the cluster; `finished`.
        host: on which machine.
        detail: for people.
        step: global steps done then.
        last_step: global steps that there will be.
        world_size: workers.
        repeated: steps that had been done after the checkpoint, and are done again.
        rank: of the worker that failed.
    """

    time: UnixSeconds
    kind: Kind
    host: Annotated[str, msgspec.Meta(max_length=1000)]
    detail: str = ""
    step: Natural | None = None
    last_step: Natural | None = None
    world_size: Natural | None = None
    repeated: Natural | None = None
    rank: Natural | None = None


def record(run_dir: str, kind: Kind, *, detail: str = "", **numbers: int | None) -> None:
    """Adds an event; a storage that fails is logged, and stops nothing.

    Args:
        run_dir: of the run.
        kind: see `Event`, as for all that follow.
        detail: its end is kept where it is long.
        numbers: `step`, `last_step`, `world_size`, `repeated`, `rank`.
    """
    now = time.time()
    event = Event(
        time=round(now, 3),
        kind=kind,
        host=socket.gethostname(),
        detail=without_passwords(detail)[-_MAX_DETAIL:],
        **numbers,
    )
    name = f"{_later(int(now * 1000)):015d}-{kind}-{secrets.token_hex(2)}.json"
    try:
        with atomic_write(join(run_dir, EVENTS_DIRECTORY, name)) as file:
            file.write(strict_json(event) + b"\n")
    except (FileError, OSError) as error:
        _LOG.warning("%s", error)


def _later(milliseconds: int) -> int:
    """Returns the time, or what comes after the last one: a process's events keep their order."""
    global _last
    with _NAMING:
        _last = max(milliseconds, _last + 1)
        return _last


def remove_unfinished(run_dir: str) -> None:
    """Deletes what writers of events left that were killed at it.

    Call it when a training's workers have ended. A storage that fails is logged, and stops nothing.
    """
    directory = join(run_dir, EVENTS_DIRECTORY)
    try:
        for name in list_names(directory):
            if TEMPORARY_NAME.fullmatch(name):
                remove(join(directory, name))
    except FileError as error:
        _LOG.warning("%s", error)


def read_events(run_dir: str) -> list[Event]:
    """Returns a run's events, oldest first.

    A file that isn't one, or has gone since it was listed, is logged and passed over: what else
    happened to the run is worth knowing, and nothing depends on an event.
    """
    directory = join(run_dir, EVENTS_DIRECTORY)
    events = []
    for name in list_names(directory):
        if not name.endswith(".json") or name.startswith("."):
            continue
        url = join(directory, name)
        try:
            events.append(decode(read_bytes(url), Event))
        except ValueError as error:
            _LOG.warning("%s: not an event (%s); it is passed over", url, error)
        except FileError as error:
            _LOG.warning("%s", error)
    return events


def groups_of_workers(events: Sequence[Event]) -> list[Event]:
    """Returns the `training` events since the newest `started`; all but the first are restarts."""
    since = max((i for i, event in enumerate(events) if event.kind == "started"), default=0)
    return [event for event in events[since:] if event.kind == "training"]

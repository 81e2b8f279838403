"""One holder at a time of a directory that many machines see: a lease, renewed while it is held.

The lease is the file `lease-NNNNNNNN.json` with the highest number. Whoever wants it when its
holder is gone creates the next number, which one of several that try can
(`sharding.storage.files.create`); the number is a fencing token: a holder that was taken for dead
finds a higher one and stops.

A holder is gone when its lease says so, when its process is on this machine and isn't running, or
when the file hasn't changed for the lease's length on the watcher's own clock. Clocks of different
machines are never compared.
"""

import getpass
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from sharding.errors import FileError, PolypragError
from sharding.storage.closing import Closing
from sharding.storage.decoding import decode, strict_json
from sharding.storage.files import atomic_write, create, join, list_names, read_bytes, remove
from sharding.storage.versioned import Natural, UnixSeconds

LEASE_DIRECTORY = "lease"  # in a run
LENGTH_S = 60.0  # a holder that hasn't renewed for so long has died
RENEWALS = 6  # in that time
_HELD: set[str] = set()  # the nonces of the leases that this process holds
_NAME = re.compile(r"lease-([0-9]{8,})\.json")
_Text = Annotated[str, msgspec.Meta(max_length=1000)]


class LeaseError(PolypragError):
    """Another process holds the directory, or has taken it over."""


class Holder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who holds a lease.

    Attributes:
        purpose: what for, as "encode".
        user: on whose behalf.
        host: on which machine.
        machine: what tells apart the places where a process id means something.
        pid: of the process.
        started: what tells apart processes that had one id after another; "" where unknown.
        since: Unix seconds, by the holder's clock; for people.
        nonce: drawn for this lease.
        length_s: without a renewal for so long it has ended.
        renewals: how often it was renewed.
        released: whether it was given back.
    """

    purpose: _Text
    user: _Text
    host: _Text
    machine: _Text
    pid: int
    started: _Text
    since: UnixSeconds
    nonce: _Text
    length_s: Annotated[float, msgspec.Meta(gt=0, le=600)]
    renewals: Natural = 0
    released: bool = False

    def __str__(self) -> str:
        """For people."""
        since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self.since))
        return f"{self.purpose} by {self.user} on {self.host} (process {self.pid}, since {since})"

    def is_running(self) -> bool | None:
        """Returns whether its process lives, and holds it.

        None where that can't be told from here.
        """
        if self.machine != _machine() or not self.started:
            return None
        if _started(self.pid) != self.started:
            return False
        return self.pid != os.getpid() or self.nonce in _HELD

    def has_ended(self) -> bool:
        """Returns whether it is known that nobody holds the lease any more."""
        return self.released or self.is_running() is False


class Lease(Closing):
    """A lease that this process holds, and renews in a thread until it is closed."""

    def __init__(
        self, directory: str, number: int, holder: Holder, *, lost: Callable[[str], None]
    ) -> None:
        """Begins to renew; see `take`."""
        self._directory, self.number, self._holder = directory, number, holder
        self._stop = threading.Event()
        self._lost, self._is_lost = lost, False
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Gives the lease back."""
        _HELD.discard(self._holder.nonce)
        self._stop.set()
        self._thread.join()
        if not self._is_lost:
            with suppress(FileError, OSError):  # it ends by itself
                self._write(msgspec.structs.replace(self._holder, released=True))

    def _keep(self) -> None:
        renewed = time.monotonic()
        while not self._stop.wait(self._holder.length_s / RENEWALS):
            try:
                check_lease(self._directory, self.number)
                renewals = self._holder.renewals + 1
                self._holder = msgspec.structs.replace(self._holder, renewals=renewals)
                self._write(self._holder)
                renewed = time.monotonic()
            except LeaseError as error:
                return self._tell(str(error))
            except (FileError, OSError) as error:  # the storage may come back
                if time.monotonic() - renewed > self._holder.length_s:
                    return self._tell(f"{self._directory}: couldn't be renewed: {error}")

    def _tell(self, message: str) -> None:
        self._is_lost = True
        self._lost(message)

    def _write(self, holder: Holder) -> None:
        with atomic_write(_url(self._directory, self.number), durable=False) as file:
            file.write(msgspec.json.format(strict_json(holder)))


def take(
    directory: str | Path,
    *,
    purpose: str,
    length_s: float = LENGTH_S,
    waiting: Callable[[Holder, float], None] = lambda holder, seconds: None,
    lost: Callable[[str], None] = lambda message: None,
) -> Lease:
    """Takes a directory's lease, waiting until one whose holder may have died has ended.

    Args:
        directory: where the lease's file lies; all who may want it must see it.
        purpose: what for: others are told.
        length_s: seconds without a renewal after which it ends by itself.
        waiting: called when there is something to wait for, with the holder and the most seconds.
        lost: called in a thread, once, with how it came that another has, or may have, the lease.

    Raises:
        LeaseError: it is held by another process, which lives.
        FileError: the directory can't be written to.
    """
    directory = os.fspath(directory)
    holder = Holder(
        purpose=purpose,
        user=_user(),
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=time.time(),
        nonce=secrets.token_hex(8),
        length_s=length_s,
    )
    _HELD.add(holder.nonce)  # from before others can see it
    try:
        number = _create_next(directory, holder, waiting=waiting)
    except BaseException:
        _HELD.discard(holder.nonce)
        raise
    return Lease(directory, number, holder, lost=lost)


def _create_next(
    directory: str, holder: Holder, *, waiting: Callable[[Holder, float], None]
) -> int:
    """Waits for the newest lease's end and creates the next; its number."""
    data = msgspec.json.format(strict_json(holder))
    while True:
        current = read(directory)
        if current is not None:
            _wait_for_end(directory, *current, waiting=waiting)
        number = current[0] + 1 if current is not None else 1
        if not create(_url(directory, number), data):
            continue
        numbers = _numbers(directory)
        if numbers[-1] != number:  # its successor came and deleted it before this was created
            remove(_url(directory, number))
            continue
        for old in numbers[:-1]:
            remove(_url(directory, old))
        return number


def check_lease(directory: str | Path, number: int) -> None:
    """Asks whether a lease is still the newest of a directory.

    Raises:
        LeaseError: another has been given since; says to whom.
    """
    if max(_numbers(directory), default=0) <= number:
        return  # whatever the file holds: its owner writes it anew
    try:
        _, holder = read(directory) or (0, "another command")
    except FileError as error:
        holder = str(error)
    raise LeaseError(
        f"{os.fspath(directory)}: taken over from the command of lease {number}, which writes "
        f"nothing more: {holder}"
    )


def read(directory: str | Path) -> tuple[int, Holder] | None:
    """Returns the newest lease of a directory and its holder; None where there never was one.

    Raises:
        FileError: the file is damaged.
    """
    for number in reversed(_numbers(directory)):
        url = _url(directory, number)
        try:
            if number > 10**15:
                raise ValueError("no directory has had so many")
            return number, decode(read_bytes(url), Holder)
        except ValueError as error:
            raise FileError(
                f"{url}: not a lease ({error}); delete it if no command is at work on this run"
            ) from error
        except FileError:  # its successor's owner deleted it meanwhile
            if number in _numbers(directory):
                raise
    return None


def _wait_for_end(
    directory: str, number: int, holder: Holder, *, waiting: Callable[[Holder, float], None]
) -> None:
    """Returns when the lease has ended; raises when its holder lives."""
    seen, since = holder.renewals, time.monotonic()
    told = False
    while not holder.released:
        running = holder.is_running()
        left = since + holder.length_s - time.monotonic()
        if running is False or left <= 0:
            return
        if running or holder.renewals != seen:
            raise LeaseError(
                f"{directory}: in use: {holder}; wait until that has ended, or stop it"
            )
        if not told:
            waiting(holder, left)
            told = True
        time.sleep(min(left, holder.length_s / RENEWALS / 4))
        current = read(directory)
        if current is None or current[0] != number:
            return
        holder = current[1]


def _numbers(directory: str | Path) -> list[int]:
    found = (_NAME.fullmatch(name) for name in list_names(directory))
    return sorted(int(name[1]) for name in found if name)


def _url(directory: str | Path, number: int) -> str:
    return join(directory, f"lease-{number:08d}.json")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def _machine() -> str:
    """Returns what is shared by the processes whose ids mean the same; only Linux tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {secrets.token_hex(4)}"  # like no other


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; "" where it isn't there or can't be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]

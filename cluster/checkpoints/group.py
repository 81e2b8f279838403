"""Which group of workers may write a run's training state: the one that began last.

Ray starts workers again while those before may still live: a machine that was cut off or suspended
wakes up later and goes on. So each group draws a name. It stands in the names of all files that the
group writes, so that a late writer can't put other bytes where a manifest promises its successor's;
and it is written down beside the run's lease, where a group that isn't the last finds another's
before it writes a manifest or deletes a file.
"""

import secrets
from dataclasses import dataclass
from typing import Annotated

import msgspec

from polyprag.errors import TRY_AGAIN, FileError, RunError, StorageError
from sharding.storage.decoding import decode, strict_json
from sharding.storage.files import atomic_write, join, read_bytes
from sharding.storage.lease import LEASE_DIRECTORY, check_lease

_FILE = "workers.json"  # beside the lease


class ReplacedError(RunError):
    """Other workers have begun to train the run since, or nothing says that none have."""

    exit_status = TRY_AGAIN


class _GroupFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    group: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12}\Z")]


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """A group of workers that trains a run.

    Attributes:
        run_dir: of the run.
        name: twelve hexadecimal digits, drawn for it.
        lease: the number of the run's lease under which it trains; None: nobody else can.
    """

    run_dir: str
    name: str
    lease: int | None

    @classmethod
    def begin(cls, run_dir: str, *, lease: int | None) -> "WorkerGroup":
        """Draws a group's name and writes it down; one of its workers calls it.

        Raises:
            LeaseError: another command has the run's lease now.
            FileError: the run can't be written to.
        """
        group = cls(run_dir, secrets.token_hex(6), lease)
        group._check_lease()
        with atomic_write(group._url) as file:
            file.write(strict_json(_GroupFile(group.name)) + b"\n")
        return group

    def check(self) -> None:
        """Makes sure that this group may still write.

        Raises:
            LeaseError: another command has the run's lease now.
            ReplacedError: another group has begun.
            StorageError: the storage doesn't say.
        """
        self._check_lease()
        try:
            newest = decode(read_bytes(self._url), _GroupFile).group
        except StorageError:
            raise
        except (FileError, ValueError) as error:  # whoever starts next writes it anew
            raise ReplacedError(
                f"{self._url}: doesn't say which workers train the run now ({error}); nothing more "
                "is written by these"
            ) from error
        if newest != self.name:
            raise ReplacedError(
                f"{self.run_dir}: other workers have begun to train it; nothing more is written by "
                "these"
            )

    @property
    def _url(self) -> str:
        return join(self.run_dir, LEASE_DIRECTORY, _FILE)

    def _check_lease(self) -> None:
        if self.lease is not None:
            check_lease(join(self.run_dir, LEASE_DIRECTORY), self.lease)

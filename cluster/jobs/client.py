"""Polyprag commands as Ray jobs: submitted, found again, followed, stopped.

A job belongs to a run and a command. Submitting it again while it runs attaches to it; afterwards
it is a further attempt, which goes on from what the ones before have done.
"""

import asyncio
import hashlib
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cluster.jobs.package import fill_job_directory
from polyprag.errors import RunError
from sharding.storage.urls import absolute

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
JOB_COMMANDS = (
    *("prepare", "augment", "teach", "encode", "train-more", "add", "remove", "index", "evaluate"),
)
ACTIVE = ("PENDING", "RUNNING")
# What a driver on the cluster must know of the submitter's settings.
_PASSED_ON = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
_KIND = "polyprag"
_STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"  # by default Ray kills a job 3 s after it asked it to end


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the cluster knows it.

    Attributes:
        id: for `logs`, `stop` and `status`.
        command: of polyprag.
        run: the run directory.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        message: what Ray says of it.
        started: Unix seconds; None where it hasn't.
        ended: Unix seconds; None where it hasn't.
    """

    id: str
    command: str
    run: str
    status: str
    message: str
    started: float | None
    ended: float | None

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ACTIVE


class Jobs:
    """The jobs of a cluster."""

    def __init__(self, address: str | None = None) -> None:
        """Connects.

        Args:
            address: of the cluster's job server, http://HOST:8265; RAY_API_SERVER_ADDRESS by
                default, or else this machine.

        Raises:
            RunError: nothing answers there, or it wants a token.
        """
        self.address = (
            address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
        ).rstrip("/")
        if urlsplit(self.address).scheme not in ("http", "https"):
            raise RunError(
                f"{self.address}: the job server's address is http://HOST:8265, or https://"
            )
        with _told(self.address), _no_override():
            from ray.job_submission import JobSubmissionClient

            self._client: JobSubmissionClient = JobSubmissionClient(self.address)

    def is_open(self) -> bool:
        """Returns whether the server obeys anybody who reaches it: whether it asks for no token."""
        import requests

        with _told(self.address):
            answer = requests.get(f"{self.address}/api/jobs/", timeout=20)
        return answer.ok

    def all(self) -> list[Job]:
        """Polyprag's jobs, oldest first."""
        with _told(self.address):
            found = self._client.list_jobs()
        jobs = [_job(details) for details in found if (details.metadata or {}).get("kind") == _KIND]
        return sorted(jobs, key=lambda job: (job.started or float("inf"), job.id))

    def get(self, job_id: str) -> Job:
        """Returns a job.

        Raises:
            RunError: there is none of that id.
        """
        jobs = self.all()
        for job in jobs:
            if job.id == job_id:
                return job
        known = [job.id for job in jobs][-5:]
        raise RunError(
            f"{self.address} has no polyprag job {job_id!r}"
            + (f"; the newest are {', '.join(known)}" if known else "")
        )

    def submit(
        self,
        command: str,
        run: str,
        arguments: Sequence[str],
        *,
        retries: int,
        grace_s: float,
        environment: Mapping[str, str] | None = None,
        with_code: bool = True,
    ) -> tuple[Job, bool]:
        """Starts a job, or finds the one of the same command and run that is active.

        Args:
            command: one of `JOB_COMMANDS`.
            run: the run directory; every node must see it.
            arguments: what follows the run on the command line.
            retries: times that the command is started again after a failure.
            grace_s: seconds that it has to end when it is stopped.
            environment: variables that it gets.
            with_code: see `cluster.jobs.package.fill_job_directory`.

        Returns:
            The job, and whether it is new.

        Raises:
            RunError: another command works on the run, or the cluster refuses.
            ConfigError: a config isn't there.
        """
        run = absolute(run)
        mine = [job for job in self.all() if job.run == run]
        for job in mine:
            if job.is_active and job.command == command:
                return job, False
            if job.is_active:
                raise RunError(
                    f"{run}: the job {job.id} works on it; wait for it, or end it with `polyprag "
                    f"jobs stop {job.id}`"
                )
        key = hashlib.sha256(run.encode()).hexdigest()[:8]
        prefix = f"polyprag-{command}-{key}-"
        numbers = [job.id.removeprefix(prefix) for job in mine if job.id.startswith(prefix)]
        job_id = f"{prefix}{1 + max(map(int, filter(str.isdecimal, numbers)), default=0)}"
        with tempfile.TemporaryDirectory(prefix="polyprag-job-") as directory, _told(self.address):
            packed = fill_job_directory(Path(directory), arguments, with_code=with_code)
            words = ["python", "-m", "cluster.jobs.entry", str(retries), command, run, *packed]
            self._client.submit_job(
                entrypoint=shlex.join(words),
                submission_id=job_id,
                runtime_env={
                    "working_dir": directory,
                    "env_vars": {
                        **_environment(),
                        _STOP_WAIT: f"{grace_s:.0f}",
                        **(environment or {}),
                    },
                },
                metadata={"kind": _KIND, "command": command, "run": run},
            )
        return self.get(job_id), True

    def logs(self, job_id: str) -> str:
        """Returns all that a job has printed."""
        self.get(job_id)
        with _told(self.address):
            text: str = self._client.get_job_logs(job_id)
        return text

    def follow(self, job_id: str, show: Callable[[str], None]) -> Job:
        """Shows what a job prints, from the start, until it has ended."""

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job_id):
                show(text)

        while True:
            with _told(self.address):
                asyncio.run(tail())
            job = self.get(job_id)
            if not job.is_active:
                return job
            time.sleep(0.5)  # it has ended, and the server doesn't know yet

    def stop(self, job_id: str) -> None:
        """Asks for a job to end; an `encode` makes a checkpoint first, if there is time."""
        self.get(job_id)
        with _told(self.address):
            self._client.stop_job(job_id)


def is_loopback(address: str) -> bool:
    """Returns whether an address is of this machine alone."""
    host = urlsplit(address).hostname or ""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _job(details: "JobDetails") -> Job:
    metadata = details.metadata or {}
    return Job(
        id=str(details.submission_id),
        command=metadata.get("command", ""),
        run=metadata.get("run", ""),
        status=str(getattr(details.status, "value", details.status)),
        message=" ".join((details.message or "").split()),
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
    )


def _environment() -> dict[str, str]:
    passed = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
    return {"PYTHONUNBUFFERED": "1", **passed}


@contextmanager
def _no_override() -> Iterator[None]:
    """Ray prefers RAY_ADDRESS to the address that it is given."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    saved = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


@contextmanager
def _told(address: str) -> Iterator[Any]:
    """Turns what the client raises into one error that says what to do."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise RunError(
            f"{address}: the cluster wants its token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH=FILE"
        ) from error
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise RunError(
            f"{address}: no job server answers ({type(error).__name__}); start the cluster with "
            "`ray start --head`, forward the port (`ray dashboard`, `ssh -L`, `kubectl "
            "port-forward`), or name another --address"
        ) from error
    except RuntimeError as error:
        raise RunError(f"{address}: the job server refused: {error}") from error

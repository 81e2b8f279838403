"""Retries for remote storage, in one place: backoff for what passes, one clear error for the rest.

fsspec's file systems raise their own libraries' errors, which mustn't be imported here (none need
be installed), so an error is judged by its HTTP status, S3 code, errno and class names.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from sharding.errors import FileError, StorageError

T = TypeVar("T")

NUM_TRIES = 6
# Doubles with each try, to some 16 s in all; jitter of up to the first wait is added to each.
FIRST_WAIT_S = 0.5

_PRECONDITION_FAILED = 412
_TRANSIENT_STATUS = frozenset((408, 425, 429, 500, 502, 503, 504))
_TRANSIENT_CODES = frozenset(
    (
        "BandwidthLimitExceeded",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    )
)
_TRANSIENT_ERRNOS = frozenset(
    (
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.EREMOTEIO,
        errno.ETIMEDOUT,
    )
)
# Of botocore (HTTPClientError: connecting, timeouts), aiohttp, google-auth and fsspec.
_TRANSIENT_CLASSES = frozenset(
    (
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectionError",
        "FSTimeoutError",
        "HTTPClientError",
        "IncompleteRead",
        "IncompleteReadError",
        "ResponseParserError",
        "ResponseStreamingError",
        "ShortReadError",
        "TimeoutError",
        "TransportError",
    )
)
_PERMANENT_CLASSES = frozenset(("ClientSSLError", "ClientConnectorCertificateError", "SSLError"))
_LIBRARIES = frozenset(
    ("aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "http", "paramiko")
).union(("requests", "s3fs", "ssl", "urllib3"))


class ShortReadError(OSError):
    """Fewer bytes came than the file holds; another try may bring them all."""


def with_retries(url: str | Path, call: Callable[[], T]) -> T:
    """Calls a file system, and calls again after a pause if the failure is one that passes.

    Args:
        url: what the call is about, for errors.
        call: a request; may be made several times.

    Returns:
        What the call returned.

    Raises:
        StorageError: it failed in every try.
        FileError: the storage refused; says why, and what to do.
        FileNotFoundError: there is no such file or bucket.
    """
    tries = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(NUM_TRIES),
        wait=wait_exponential(multiplier=FIRST_WAIT_S, max=30.0) + wait_random(0, FIRST_WAIT_S),
        reraise=True,
    )
    try:
        return tries(call)
    except (FileNotFoundError, IsADirectoryError, NotImplementedError) as error:
        if is_transient(error) or _status(error) in (401, 403):
            raise storage_error(url, error) from error
        raise
    except Exception as error:
        if isinstance(error, OSError) or _is_of_library(error):
            raise storage_error(url, error) from error
        raise


def repeatable(call: Callable[[], object], *, is_done: Callable[[], bool]) -> Callable[[], None]:
    """Returns what may be called several times, of a request that can succeed only once.

    Where a try did what it should and its answer was lost, the next one fails for want of what is
    done already.

    Args:
        call: the request.
        is_done: tells whether what it does is done; asked when a further try has failed.
    """
    tries = 0

    def once() -> None:
        nonlocal tries
        tries += 1
        try:
            call()
        except Exception:
            if tries == 1 or not is_done():
                raise

    return once


def is_transient(error: BaseException) -> bool:
    """Returns whether the same call may well succeed a little later.

    The outermost error of the chain that says anything decides: the cause of aiohttp's "payload
    isn't complete" is its parser's 400, which isn't an answer of the server.
    """
    for link in _chain(error):
        names = {parent.__name__ for parent in type(link).__mro__}
        if names & _PERMANENT_CLASSES:
            return False
        if names & _TRANSIENT_CLASSES:
            return True
        status, code = _status_of(link), _code_of(link)
        if status is not None or code is not None:
            return status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES
        if isinstance(link, OSError) and link.errno in _TRANSIENT_ERRNOS:
            return True
    return False


def is_behind_the_end(error: OSError) -> bool:
    """Returns whether a storage says that a range begins behind the file's end."""
    response = getattr(error.__cause__ or error.__context__, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") in (
        "InvalidRange",
        "416",
    )


def is_already_there(error: BaseException) -> bool:
    """Returns whether the file to create exists (S3 answers 412 to a conditional write then)."""
    return isinstance(error, FileExistsError) or _status(error) == _PRECONDITION_FAILED


def storage_error(url: str | Path, error: BaseException) -> FileError:
    """Returns the user's error for a call that failed for good."""
    text, status, code = os.fspath(url), _status(error), _code(error)
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = f"{code}: {reason}" if code and code not in reason and not code.isdigit() else reason
    if is_transient(error):
        return StorageError(
            f"{text}: the storage failed {NUM_TRIES} times in a row ({reason}); nothing that was "
            "done is lost: check the endpoint and the network, and run the same command again"
        )
    if any("Credential" in type(link).__name__ for link in _chain(error)):
        return FileError(
            f"{text}: no usable credentials ({reason}); for S3 set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE or an instance role, on every node"
        )
    if code == "NoSuchBucket":
        return FileError(f"{text}: no such bucket; make it, or check the URL and the endpoint")
    if isinstance(error, PermissionError) or status in (401, 403):
        return FileError(
            f"{text}: access denied ({reason}); check the credentials and what they may do with "
            "this bucket"
        )
    if isinstance(error, FileNotFoundError):
        return FileError(f"{text}: no such file; check the path")
    return FileError(f"{text}: the storage refused ({reason}); check the URL and the endpoint")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields the error and its causes; s3fs and fsspec wrap what the network raised."""
    link: BaseException | None = error
    for _ in range(8):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _status(error: BaseException) -> int | None:
    """Returns the HTTP status of the answer, if there was one."""
    found = (_status_of(link) for link in _chain(error))
    return next((status for status in found if status is not None), None)


def _code(error: BaseException) -> str | None:
    """Returns S3's name for the error, if it has one."""
    return next((code for link in _chain(error) if (code := _code_of(link))), None)


def _response_of(link: BaseException) -> dict[str, Any]:
    response = getattr(link, "response", None)  # of botocore's ClientError
    return response if isinstance(response, dict) else {}


def _status_of(link: BaseException) -> int | None:
    status = _response_of(link).get("ResponseMetadata", {}).get("HTTPStatusCode")
    status = status or getattr(link, "status", None) or getattr(link, "code", None)
    return status if isinstance(status, int) and 400 <= status < 600 else None


def _code_of(link: BaseException) -> str | None:
    code = _response_of(link).get("Error", {}).get("Code")
    return str(code) if code else None


def _is_of_library(error: BaseException) -> bool:
    return any(type(link).__module__.partition(".")[0] in _LIBRARIES for link in _chain(error))

"""What a path or URL names: a file on this machine, or a file system of fsspec and a path in it."""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import fsspec

from sharding.errors import FileError

EntryKind = Literal["file", "folder", "link", "other"]  # of what lies in a directory

_WRITTEN = ("LastModified", "mtime", "updated", "created")  # as the file systems call it
_REFUSED = ("pipe", "shell", "exec")
_LOCAL = ("file", "local")
_PACKAGES = {
    "s3": "polyprag[s3]",
    "s3a": "polyprag[s3]",
    "gs": "polyprag[gcs]",
    "gcs": "polyprag[gcs]",
}

# There an upload is a single act: an object appears whole or not at all, and can't be renamed.
OBJECT_STORES = frozenset(
    ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory")
)
HTTP = frozenset(("http", "https"))


def local_path(url: str | Path) -> str | None:
    """Returns the path on this machine that a path, `file:` or `local:` URL means.

    None for other URLs.

    As in fsspec, nothing is decoded: `%20` stands for itself.

    Raises:
        FileError: it is a URL that runs a command.
    """
    text = os.fspath(url)
    if isinstance(url, Path):
        return text
    for link in text.split("::"):
        scheme, colon, _ = link.strip().partition(":")
        if scheme.lower() in _REFUSED and (colon or "::" in text):
            raise FileError(
                f"{text}: {scheme}: URLs run commands and are refused; give a file or URL"
            )
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in _LOCAL and "::" not in text and rest.startswith("/"):
        return rest.removeprefix("//localhost" if rest.startswith("//localhost/") else "//")
    return None if "://" in text or "::" in text else text


def is_local(url: str | Path) -> bool:
    """Returns whether it lies on this machine's own file system; see `local_path`."""
    return local_path(url) is not None


def absolute(url: str | Path) -> str:
    """Returns a local path as a process in another directory finds it; any other URL as it is."""
    path = local_path(url)
    return os.fspath(url) if path is None else os.path.abspath(path)


def is_chained(url: str | Path) -> bool:
    """Returns whether it is several URLs in one, such as `zip://part.jsonl::s3://bucket/all.zip`."""
    return "::" in os.fspath(url)


def scheme_of(url: str | Path) -> str:
    """Returns the URL's (first) protocol, such as `s3`."""
    return os.fspath(url).partition("::")[0].partition(":")[0].lower()


def filesystem_of(url: str | Path) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL that isn't local, and the path in it.

    Object stores are set not to remember listings, which other workers make out of date, and S3
    not to repeat requests by itself: `sharding.storage.retry` does, once for all.

    Raises:
        FileError: no such file system is known, or its package isn't installed.
    """
    text = os.fspath(url)
    scheme = scheme_of(text)
    plain = not is_chained(text)
    options: dict[str, Any] = {}
    if plain and (scheme in OBJECT_STORES or scheme in HTTP):
        options["use_listings_cache"] = False
    if plain and scheme in ("s3", "s3a"):
        from fsspec.config import conf

        configured = dict(conf.get(scheme, {}).get("config_kwargs", {}))
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}} | configured
    try:
        fs, path = fsspec.core.url_to_fs(text, **options)
    except ImportError as error:
        remedy = f"pip install '{_PACKAGES[scheme]}'" if scheme in _PACKAGES else str(error)
        raise FileError(f"{text}: the package for {scheme}:// isn't installed: {remedy}") from error
    except ValueError as error:
        raise FileError(f"{text}: not a URL that can be opened ({error}); check it") from error
    if plain and scheme in ("s3", "s3a"):
        fs.retries = 1
    return fs, str(path)


def written_at(entry: dict[str, Any]) -> float | None:
    """Returns when a file was last written, as its file system describes it."""
    written = next((entry[name] for name in _WRITTEN if entry.get(name)), None)
    if isinstance(written, str):
        with suppress(ValueError):
            written = datetime.fromisoformat(written)
    if isinstance(written, datetime):
        written = written.timestamp()
    return float(written) if isinstance(written, float | int) else None

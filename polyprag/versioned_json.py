"""JSON files that say their format and version."""

from typing import Any

from polyprag.errors import RunError
from sharding.storage.files import exists, read_json


def read_versioned(url: str, *, form: str, version: int, what: str, command: str) -> dict[str, Any]:
    """Returns the values of a file of one format and version.

    Args:
        url: of the file.
        form: what its `format` must be.
        version: what its `version` must be.
        what: what it is, for errors.
        command: that makes it, for errors.

    Raises:
        RunError: it isn't there, or is of another format or version.
        FileError: it can't be read.
    """
    if not exists(url):
        raise RunError(f"{url}: no such file; run `{command}` first")
    values = read_json(url)
    if not isinstance(values, dict) or values.get("format") != form:
        raise RunError(f'{url}: not {what} (format must be "{form}"); run `{command}` again')
    if values.get("version") != version:
        raise RunError(
            f"{url}: version {values.get('version')!r} can't be read by this polyprag, which reads "
            f"version {version}; run `{command}` again"
        )
    return values

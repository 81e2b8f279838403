"""A run's short name for what is kept of it elsewhere: made once, the same after every restart."""

import re
import secrets

from polyprag.errors import RunError
from sharding.storage.files import create, exists, join, read_bytes

RUN_ID_FILE = "logs/run-id"
_ID = re.compile(r"[0-9a-f]{8}")


def run_id_of(run_dir: str) -> str:
    """Reads the id in `RUN/logs/run-id`, which the first caller writes.

    Args:
        run_dir: a path or URL. A copy of a run has the same id, until its file is deleted.

    Returns:
        Eight hexadecimal digits.

    Raises:
        RunError: the file holds something else.
        FileError: it can't be written or read.
    """
    url = join(run_dir, RUN_ID_FILE)
    if not exists(url):
        create(url, f"{secrets.token_hex(4)}\n".encode())
    text = read_bytes(url, length=64).decode("ascii", "replace").strip()
    if not _ID.fullmatch(text):
        raise RunError(f"{url}: not a run's id ({text!r}); delete it, and the run gets a new one")
    return text

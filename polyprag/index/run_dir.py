"""Where a run keeps what the index is made from and checked against."""

import os
from pathlib import Path

from polyprag.errors import RunError

CORPUS, ENCODING, INDEX = "corpus", "encoding", "index"


def local_run(run_dir: str | Path) -> Path:
    """RUN as a local path.

    Raises:
        RunError: it is a URL: an index is memory-mapped, so it must lie on a local disk.
    """
    text = os.fspath(run_dir).removeprefix("file://")
    if "://" in text or "::" in text:
        raise RunError(
            f"{text}: an index is memory-mapped and so can't lie behind a URL: copy RUN/corpus and "
            "RUN/encoding, or RUN/index to search only, to a local disk and name that directory"
        )
    return Path(text)

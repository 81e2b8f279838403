"""Weights on a hub, known by headers and samples alone: some 5 MB of a model of 8B are fetched.

The driver of a cluster needn't have the weights, which each worker fetches for itself.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from polyprag.pretrained.files import WHOLE_WEIGHTS, shards_in
from polyprag.pretrained.tensors import TensorEntry, header_bytes, parse_header, sampled_ranges

_THREADS = 16
_MOST_TENSORS = 3000  # more take minutes; the workers compare them, who have the files
_SECONDS = 30.0  # for one answer
_PARTIAL = 206


class _Unreachable(Exception):  # noqa: N818 - it never leaves this file
    """The hub gave no answer, or not what was asked for."""


def samples_on_hub(
    name: str, revision: str | None, *, index: Path | None
) -> list[tuple[str, TensorEntry, bytes]] | None:
    """Returns every tensor of a model on a hub, with its sampled bytes.

    Args:
        name: OWNER/NAME.
        revision: of it; None for its newest.
        index: its model.safetensors.index.json, fetched before, if it has one.

    Returns:
        None where the hub can't be reached or gives no parts of files, or there are too many.

    Raises:
        UnusableModelError: a header can't be.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub import utils as hub_utils

    hub: Any = hub_utils  # which doesn't say that it exports these
    session, headers = hub.get_session(), hub.build_hf_headers()

    def part(file: str, first: int, end: int) -> tuple[bytes, int]:
        """Returns bytes of a file, and how many it has."""
        url = hf_hub_url(name, file, revision=revision)
        asked = headers | {"Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
        try:
            answer = session.get(url, headers=asked, timeout=_SECONDS, follow_redirects=True)
            size = int(answer.headers["Content-Range"].rpartition("/")[2])
        except Exception as error:  # of whichever HTTP library the hub's own client uses
            raise _Unreachable from error
        if answer.status_code != _PARTIAL or len(answer.content) != end - first:
            raise _Unreachable
        return answer.content, size

    def tensors(file: str) -> list[tuple[str, str, TensorEntry]]:
        first, size = part(file, 0, 8)
        length = header_bytes(first, size=size, what=f"{name}/{file}")
        header, _ = part(file, 8, 8 + length)
        entries = parse_header(header, size=size, what=f"{name}/{file}")
        return [(file, tensor, entry) for tensor, entry in entries.items()]

    def sample(found: tuple[str, str, TensorEntry]) -> tuple[str, TensorEntry, bytes]:
        file, tensor, entry = found
        ranges = [(first, end) for first, end in sampled_ranges(entry) if end > first]
        return tensor, entry, b"".join(part(file, *each)[0] for each in ranges)

    files = [WHOLE_WEIGHTS] if index is None else shards_in(index)
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            found = [each for of_file in pool.map(tensors, files) for each in of_file]
            if len(found) > _MOST_TENSORS:
                return None
            return list(pool.map(sample, found))
    except _Unreachable:
        return None

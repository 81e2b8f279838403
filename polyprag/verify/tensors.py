"""Whether the tensors of an encoding or a checkpoint are what its manifest and the corpus say."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from polyprag.encoding.adapter import pool_name
from polyprag.encoding.manifest import EncodingManifest
from polyprag.errors import FileError
from sharding.checks.problem import Problem
from sharding.rows.file import load_rows
from sharding.rows.part import ids_with_state
from sharding.storage.files import read_bytes

_NAMED = 5  # removed passages
_tensors_of: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = deserialize  # which has no types


def rows_problems(
    url: str,
    ids: tuple[int, int, int] | None,
    *,
    sha256: str,
    shape: tuple[int, ...] | None = None,
    removed: Sequence[int] = (),
    remedy: str,
) -> list[Problem]:
    """Returns what is wrong with a file of a partition's rows.

    Args:
        url: the file.
        ids: the partition, its first id and its number of passages, if there is a corpus.
        sha256: what the file must have, in hex.
        shape: (n, S, K) that the rows must have, if that is known.
        removed: ids of the partition's removed passages, of which nothing may be left.
        remedy: what to do.
    """
    try:
        part = load_rows(url, sha256=sha256)
    except FileError as error:
        return [Problem(url, str(error))]
    wrong = []
    if ids is not None:
        mine = (part.index, part.first_id, len(part.rows))
        for name, found, expected in zip(
            ("partition", "first_id", "number of rows"), mine, ids, strict=True
        ):
            if found != expected:
                wrong.append(f"{name} is {found} where the corpus has {expected}")
    if shape is not None and part.rows.shape != shape:
        wrong.append(f"rows have shape {part.rows.shape} where the manifest says {shape}")
    for name in ("rows", "exp_avg", "exp_avg_sq"):
        if not np.isfinite(getattr(part, name)).all():
            wrong.append(f"{name} holds numbers that are infinite or undefined")
    problems = [Problem(url, f"{url}: {what}; {remedy}") for what in wrong]
    if not problems and (left := ids_with_state(part, removed)):
        some = ",".join(map(str, left[:_NAMED]))
        what = f"holds rows of {len(left)} removed passages, {left[0]} first"
        problems.append(
            Problem(url, f"{url}: {what}; run `polyprag remove RUN --ids {some}` again")
        )
    return problems


def expert_problems(
    url: str, manifest: EncodingManifest | None, *, sha256: str, remedy: str
) -> list[Problem]:
    """Returns what is wrong with a file of expert weights.

    Args:
        url: the safetensors file.
        manifest: of the encoding; a checkpoint's has no sizes to compare.
        sha256: what the file must have, in hex.
        remedy: what to do.
    """
    try:
        data = read_bytes(url)
        if hashlib.sha256(data).hexdigest() != sha256:
            return [Problem(url, f"{url}: SHA-256 differs from the manifest's; {remedy}")]
        tensors = _tensors_of(data)
    except FileError as error:
        return [Problem(url, str(error))]
    except SafetensorError as error:
        return [Problem(url, f"{url}: not a safetensors file ({error}); {remedy}")]
    wrong = []
    for name, tensor in tensors:
        shape, letter = tensor["shape"], pool_name(name).rpartition(".")[2]
        if tensor["dtype"] != "F32" or not np.isfinite(np.frombuffer(tensor["data"], "<f4")).all():
            wrong.append(f"{name} isn't of finite float32 numbers")
        if manifest is not None and letter in ("A", "B"):
            width = manifest.num_experts * manifest.rank
            if len(shape) != 2 or shape["AB".index(letter)] != width:
                wrong.append(
                    f"{name} has shape {tuple(shape)}, and {manifest.num_experts} experts of rank "
                    f"{manifest.rank} need {width} {'rows' if letter == 'A' else 'columns'}"
                )
        elif manifest is not None:
            wrong.append(f"{name} is no expert's tensor")
    if not tensors:
        wrong.append("it holds no tensors")
    return [Problem(url, f"{url}: {what}; {remedy}") for what in wrong]

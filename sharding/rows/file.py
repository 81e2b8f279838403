"""Files of routing rows, one a partition: the one place that writes, reads and checks them.

Reading and writing need one file and no communication: a row is only touched by the worker that
streams its passage. Nothing is copied on the way: the arrays' memory is hashed and written as it
lies there, and what is read stays where it was read to. Other threads run meanwhile.

A file is the part of safetensors that is needed: 8 bytes of length, a JSON header of that length,
and the arrays' memory. The header's keys are sorted (the library writes its metadata in random
order), so equal arrays give equal bytes. What is read must be exactly such a file; the library
reads it too.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from sharding.errors import FileError
from sharding.rows.part import Float32Array, RowPartition, second_moment_shape, without_moments
from sharding.storage.array_files import map_bytes, read_buffer, write_buffers
from sharding.storage.decoding import decode

_DTYPES = {"exp_avg": "F32", "exp_avg_sq": "F32", "rows": "F32", "steps": "I32"}
_NUMPY = {"F32": np.float32, "I32": np.int32}
_ITEM_BYTES = 4  # of both
_ALIGNMENT = 8  # the header is padded to it

_Size = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]
_Decimal = Annotated[str, msgspec.Meta(pattern="^(0|[1-9][0-9]{0,17})$")]


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=3)]
    data_offsets: tuple[_Size, _Size]


class _Metadata(msgspec.Struct, forbid_unknown_fields=True):
    first_id: _Decimal
    index: _Decimal


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    metadata: _Metadata = msgspec.field(name="__metadata__")
    rows: _Tensor
    exp_avg: _Tensor | None = None
    exp_avg_sq: _Tensor | None = None
    steps: _Tensor | None = None


_REMEDY = "it is damaged: copy it again"


def save_rows(
    url: str | Path, part: RowPartition, *, moments: bool = True, durable: bool = True
) -> tuple[str, int]:
    """Writes a partition's rows, atomically; equal rows give equal bytes.

    Args:
        url: the safetensors file.
        part: what to write; nothing may change it meanwhile.
        moments: whether the optimiser's state goes with it (a checkpoint) or not (an encoding).
        durable: whether it must survive a power cut right after; else see
            `sharding.storage.files.sync`.

    Returns:
        The file's SHA-256 in hex, and its bytes.
    """
    names = ("exp_avg", "exp_avg_sq", "rows", "steps") if moments else ("rows",)
    arrays = {name: np.ascontiguousarray(getattr(part, name)) for name in names}
    header = _pack_header(arrays, index=part.index, first_id=part.first_id)
    buffers: list[Any] = [header, *(arrays[name].reshape(-1).view(np.uint8).data for name in names)]
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    write_buffers(url, buffers, durable=durable)
    return digest.hexdigest(), sum(map(len, buffers))


def load_rows(
    url: str | Path, *, sha256: str | None = None, second_moment: str | None = None
) -> RowPartition:
    """Reads what `save_rows` wrote; without moments in the file they and the steps are zero.

    Zero moments that nobody touches take no memory.

    Args:
        url: the safetensors file.
        sha256: what its hash must be, when it is known.
        second_moment: what must have, or is given, a second moment of its own: an "element", a
            "site" or a "row"; None for whatever the file has, or else an element.

    Returns:
        The rows, in arrays of their own that may be changed.

    Raises:
        FileError: the file is missing or damaged, has another hash, its tensors don't fit, or its
            second moments are of something else.
    """
    data = read_buffer(url)
    if sha256 is not None and hashlib.sha256(data.data).hexdigest() != sha256:
        raise FileError(f"{url}: SHA-256 differs from what was recorded; {_REMEDY}")
    try:
        index, first_id, tensors = _parse(data)
        if len(tensors) == 1:
            return without_moments(index, first_id, tensors["rows"], second_moment or "element")
        part = RowPartition(index, first_id, **tensors)
    except ValueError as error:
        raise FileError(f"{url}: not a file of routing rows ({error}); {_REMEDY}") from error
    if second_moment is not None:
        expected = second_moment_shape(part.rows.shape, second_moment)
        if part.exp_avg_sq.shape != expected:
            raise FileError(
                f"{url}: has second moments of shape {part.exp_avg_sq.shape}, and one for each "
                f"{second_moment} would be {expected}: go on with the train.rows_second_moment "
                "that it was trained with"
            )
    return part


def map_rows(path: str | Path) -> Float32Array:
    """Returns the rows in a local file as a read-only memory map: only what is used is read.

    Its hash isn't checked here; see `sharding.storage.files.sha256_of`.

    Raises:
        ValueError: it isn't a file of routing rows; says how.
    """
    _, _, arrays = _parse(map_bytes(path))
    return arrays["rows"]


def _pack_header(arrays: Mapping[str, np.ndarray[Any, Any]], *, index: int, first_id: int) -> bytes:
    """Returns what stands before the arrays' memory.

    Args:
        arrays: by name, in the order in which they will be written.
        index: the partition's number.
        first_id: passage id of row 0.
    """
    fields: dict[str, Any] = {"__metadata__": {"first_id": str(first_id), "index": str(index)}}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        fields[name] = {
            "dtype": _DTYPES[name],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    length = -(-len(text) // _ALIGNMENT) * _ALIGNMENT
    return length.to_bytes(8, "little") + text.ljust(length)


def _parse(
    data: np.ndarray[Any, np.dtype[np.uint8]],
) -> tuple[int, int, dict[str, np.ndarray[Any, Any]]]:
    """Returns the arrays in a file's bytes, as views of them.

    Args:
        data: uint8, all of the file.

    Returns:
        The partition's number, its first passage id, and either the rows alone or with their
        moments and step counts, by name.

    Raises:
        ValueError: the bytes aren't a file of routing rows; says how.
    """
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    if len(data) < 8 or start > len(data):
        raise ValueError("it ends before its header does")
    if start % _ALIGNMENT:
        raise ValueError(f"its header's length isn't a multiple of {_ALIGNMENT}")
    header = decode(data[8:start].data, _Header)
    found = {name: t for name in _DTYPES if (t := getattr(header, name)) is not None}
    if len(found) not in (1, len(_DTYPES)):
        raise ValueError(f"it has {', '.join(found)} alone")
    arrays, end = {}, 0
    for name, tensor in sorted(found.items(), key=lambda item: item[1].data_offsets):
        begin, stop = tensor.data_offsets
        if tensor.dtype != _DTYPES[name]:
            raise ValueError(f"{name} is {tensor.dtype}, not {_DTYPES[name]}")
        if begin != end or stop - begin != _ITEM_BYTES * math.prod(tensor.shape):
            raise ValueError(f"{name} of shape {tensor.shape} isn't at bytes {begin} to {stop}")
        memory = data[start + begin : start + stop].view(_NUMPY[tensor.dtype])
        arrays[name] = memory.reshape(tensor.shape)
        end = stop
    if start + end != len(data):
        raise ValueError(f"it has {len(data)} bytes where its header says {start + end}")
    if arrays["rows"].ndim != 3:
        raise ValueError(f"rows have shape {arrays['rows'].shape}, not (n, S, K)")
    if len(arrays) > 1 and (arrays["steps"] < 0).any():
        raise ValueError("steps are negative")
    return int(header.metadata.index), int(header.metadata.first_id), arrays

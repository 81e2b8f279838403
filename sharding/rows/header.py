"""The header of a file of routing rows: the part of safetensors that such files use.

A file is 8 bytes of length, a JSON header of that length, and the arrays' memory. The header's keys
are sorted (the library writes its metadata in random order), so equal arrays give equal bytes. What
is read must be exactly such a file; the library reads it too.
"""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np

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


def pack_header(arrays: Mapping[str, np.ndarray[Any, Any]], *, index: int, first_id: int) -> bytes:
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
    text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    length = -(-len(text) // _ALIGNMENT) * _ALIGNMENT
    return length.to_bytes(8, "little") + text.ljust(length)


def parse_tensors(
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

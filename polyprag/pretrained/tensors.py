"""The headers of safetensors files: which tensors a file has and where, without reading them.

The format: https://huggingface.co/docs/safetensors. Eight bytes have the header's length, then
comes JSON with each tensor's dtype, shape and place in the bytes that follow.
"""

import math
import os
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from polyprag.pretrained.unusable import UnusableModelError
from sharding.storage.decoding import convert, decode

_MOST_HEADER = 100_000_000  # bytes, as the safetensors library has it
_METADATA = "__metadata__"

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class TensorEntry(msgspec.Struct, frozen=True):
    """A tensor as a header has it.

    Attributes:
        dtype: such as F32 or BF16.
        shape: of the tensor.
        data_offsets: its first byte and the one behind its last, from the header's end on.
        begins: where the header ends, in bytes from the file's beginning.
    """

    dtype: str
    shape: list[_Size]
    data_offsets: tuple[_Size, _Size]
    begins: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor."""
        return self.data_offsets[1] - self.data_offsets[0]

    @property
    def first_byte(self) -> int:
        """Where it begins in the file."""
        return self.begins + self.data_offsets[0]

    @property
    def num_elements(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


def tensors_of(file: Path) -> dict[str, TensorEntry]:
    """Returns the tensors of a safetensors file by name, in its order.

    Raises:
        UnusableModelError: it isn't such a file, was cut short, or its header says what can't be.
    """
    try:
        with open(file, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            begins = 8 + header_bytes(opened.read(8), size=size, what=str(file))
            return parse_header(opened.read(begins - 8), size=size, what=str(file))
    except OSError as error:
        raise UnusableModelError(f"{file} can't be read: {error.strerror or error}") from error


def header_bytes(first: bytes, *, size: int, what: str) -> int:
    """Returns the header's length, from a file's first eight bytes.

    Args:
        first: the eight bytes.
        size: of the whole file, in bytes.
        what: names the file in errors.

    Raises:
        UnusableModelError: it is longer than the file or than any header.
    """
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > size - 8 or length > _MOST_HEADER:
        raise UnusableModelError(
            f"{what} isn't a whole safetensors file (a header of {length:,} bytes in {size:,}); "
            "copy it again"
        )
    return length


def parse_header(header: bytes, *, size: int, what: str) -> dict[str, TensorEntry]:
    """Returns the tensors that a header names.

    Args:
        header: its JSON.
        size: of the whole file, in bytes.
        what: names the file in errors.

    Raises:
        UnusableModelError: it isn't JSON of this form, or a tensor lies outside of the file.
    """
    begins = 8 + len(header)
    try:
        values = decode(header, dict[str, object])
        values.pop(_METADATA, None)
        entries = convert(values, dict[str, TensorEntry])
    except ValueError as error:
        raise UnusableModelError(f"{what}: its header can't be read ({error})") from error
    for name, entry in entries.items():
        first, end = entry.data_offsets
        if not first <= end <= size - begins:
            raise UnusableModelError(
                f"{what}: {name!r} ends {end - (size - begins):,} bytes behind the end of the "
                "file; copy it again"
                if first <= end
                else f"{what}: {name!r} ends before it begins"
            )
    return {name: msgspec.structs.replace(e, begins=begins) for name, e in entries.items()}


def read_sample(opened: BinaryIO, entry: TensorEntry) -> bytes:
    """Returns a tensor's bytes that `sampled_ranges` names, from an opened file."""
    parts = []
    for first, end in sampled_ranges(entry):
        opened.seek(first)
        parts.append(opened.read(end - first))
    return b"".join(parts)


# Enough that weights trained on differ surely, and few enough reads for the largest models.
_BLOCK, _NUM_BLOCKS = 4096, 4


def sampled_ranges(entry: TensorEntry) -> list[tuple[int, int]]:
    """Returns which bytes of its file stand for a tensor: all of a small one, else four blocks.

    The blocks are evenly spread, the first at its beginning and the last at its end.
    """
    first, total = entry.first_byte, entry.num_bytes
    if total <= _BLOCK * _NUM_BLOCKS:
        return [(first, first + total)]
    starts = [first + (total - _BLOCK) * i // (_NUM_BLOCKS - 1) for i in range(_NUM_BLOCKS)]
    return [(start, start + _BLOCK) for start in starts]

"""What a GGUF file says that it holds, read with bounds and before any library reads it.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Counts and lengths are as the
file's maker wrote them: what reaches behind the file's end, or takes the same bytes twice, is
refused before anything is allocated for it.
"""

import importlib.util
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyprag.pretrained.unusable import UnusableModelError
from sharding.printable import printable_line
from sharding.storage.local import open_regular

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_PACKAGES = ("gguf", "accelerate")  # transformers loads a GGUF file with both
_ALIGNMENT = 32  # where the file names no other
# Far above what any model has; the largest vocabularies have 260,000 tokens.
_MOST_KEYS, _MOST_TENSORS, _MOST_ENTRIES, _MOST_DIMENSIONS = 10_000, 200_000, 4_000_000, 4


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """A GGUF file's contents.

    Attributes:
        architecture: such as `llama`.
        num_elements: numbers in all of its tensors.
    """

    architecture: str
    num_elements: int


class _Lies(Exception):  # noqa: N818 - it never leaves this file
    """Says what the file claims and can't be."""


def read_header(file: Path) -> GGUFHeader:
    """Returns what a GGUF file holds, once all of it fits into the file.

    Raises:
        UnusableModelError: it isn't a whole GGUF file, is one of several parts, or is quantised in
            a way that isn't known; a package that loads it isn't installed.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        which, are = ("packages", "aren't") if len(missing) > 1 else ("package", "isn't")
        raise UnusableModelError(
            f"a GGUF file needs the {which} {' and '.join(missing)}, which {are} installed: "
            "pip install 'polyprag[gguf]'"
        )
    try:
        with open_regular(file) as opened:
            if opened.read(len(_MAGIC)) != _MAGIC:
                raise _Lies("it doesn't begin with GGUF")
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return _header(_Cursor(mapped))
    except _Lies as error:
        raise UnusableModelError(
            f"{file} isn't a whole GGUF file ({error}); copy it again"
        ) from None
    except OSError as error:
        raise UnusableModelError(f"{file} can't be read: {error.strerror or error}") from error


class _Cursor:
    """Reads a mapped file from its beginning, and never behind its end."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self.mapped, self.at = mapped, len(_MAGIC)

    @property
    def left(self) -> int:
        return len(self.mapped) - self.at

    def skip(self, num_bytes: int) -> int:
        """Returns where so many bytes begin, and goes on behind them."""
        if num_bytes > self.left:
            raise _Lies(f"{num_bytes:,} bytes at {self.at:,} of {len(self.mapped):,}")
        begins, self.at = self.at, self.at + num_bytes
        return begins

    def number(self, letter: str) -> Any:
        form = "<" + letter
        return struct.unpack_from(form, self.mapped, self.skip(struct.calcsize(form)))[0]

    def count(self, what: str, most: int) -> int:
        """Returns a count of things that take a byte at least each."""
        number = int(self.number("Q"))
        if number > min(most, self.left):
            raise _Lies(f"{number:,} {what}")
        return number

    def text(self) -> str:
        length = self.number("Q")
        begins = self.skip(length)
        return bytes(self.mapped[begins : self.at]).decode(errors="replace")


def _header(cursor: _Cursor) -> GGUFHeader:
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise _Lies(f"version {version:,}, where 2 and 3 are known")
    num_tensors = cursor.count("tensors", _MOST_TENSORS)
    num_keys = cursor.count("keys", _MOST_KEYS)
    values: dict[str, Any] = {}
    for _ in range(num_keys):
        key = cursor.text()
        values[key] = _value(cursor, cursor.number("I"))
    parts = values.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise UnusableModelError(
            f"it is one of {parts} parts: join them with llama.cpp's `llama-gguf-split --merge`"
        )
    sizes = [_tensor(cursor) for _ in range(num_tensors)]
    alignment = values.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise _Lies(f"general.alignment={alignment!r}")
    room = len(cursor.mapped) - -(-cursor.at // alignment) * alignment
    for name, _, begins, num_bytes in sizes:
        if begins + num_bytes > room:
            raise _Lies(f"{name} ends {begins + num_bytes - room:,} bytes behind its end")
    taken = sum(num_bytes for *_, num_bytes in sizes)
    if taken > room:
        raise _Lies(f"{taken:,} bytes of tensors in {room:,}")
    return GGUFHeader(
        architecture=str(values.get("general.architecture", "")),
        num_elements=sum(num_elements for _, num_elements, *_ in sizes),
    )


def _value(cursor: _Cursor, kind: int) -> Any:
    """Returns a number or a text, and None for an array, which is passed over."""
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _STRING:
        return cursor.text()
    if kind != _ARRAY:
        raise _Lies(f"a value of the unknown type {kind:,}")
    inner = cursor.number("I")
    length = cursor.count("entries of a list", _MOST_ENTRIES)
    if inner in _SCALARS:
        cursor.skip(length * struct.calcsize("<" + _SCALARS[inner]))
    elif inner == _STRING:
        for _ in range(length):
            cursor.skip(cursor.number("Q"))
    else:
        raise _Lies(f"a list of the unknown type {inner:,}")
    return None


def _tensor(cursor: _Cursor) -> tuple[str, int, int, int]:
    """Returns a tensor's name, numbers, first byte behind the header, and bytes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    name = printable_line(cursor.text())[:100]
    num_dimensions = cursor.number("I")
    if num_dimensions > _MOST_DIMENSIONS:
        raise _Lies(f"{name} has {num_dimensions:,} dimensions")
    shape = [int(cursor.number("Q")) for _ in range(num_dimensions)]
    kind = cursor.number("I")
    try:
        block, num_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        raise UnusableModelError(
            f"its tensor {name} is quantised as type {kind}, which the installed package gguf "
            "doesn't know: upgrade gguf, or take another quantisation, such as Q8_0 or Q4_K_M"
        ) from None
    num_elements = math.prod(shape)
    if num_elements % block:
        raise _Lies(f"{name} has {num_elements:,} numbers in blocks of {block}")
    return name, num_elements, int(cursor.number("Q")), num_elements // block * num_bytes

"""JSON into typed values, so that whatever is wrong with the bytes is one `ValueError`; and back.

`msgspec` alone raises more: `UnicodeDecodeError`, which is no `MsgspecError`, where a text isn't
UTF-8, and `RecursionError`, which is no `ValueError`, where the bytes are nested deeply. And it
writes NaN and infinity, for which JSON has no word, as null, which can't be read back as a number;
`json` writes words for them that only Python reads.
"""

import json
import math
import re
import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_FIELD = re.compile(r"(.*) - at `(?:key` in `)?\$\.?(.*)`", re.DOTALL)
_BYTE = re.compile(r"\(byte (\d+)\)")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = threading.Lock()


def decode(data: bytes | memoryview, kind: type[T]) -> T:
    """Returns the value of a type that JSON holds; stricter than `json`.

    NaN, infinity, lone surrogates and other encodings than UTF-8 are refused, which would fail only
    when the value is written again.

    Args:
        data: JSON in UTF-8.
        kind: the type, as `msgspec` understands it; `object` for any value.

    Raises:
        ValueError: the bytes aren't that; begins with the field where they are JSON.
    """
    try:
        found: T = _decoder(kind).decode(data)
        return found
    except UnicodeDecodeError as error:
        raise ValueError(f"{error.reason} of UTF-8 (byte {_first_not_utf8(data)})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except msgspec.ValidationError as error:
        raise ValueError(_field_first(error)) from error


def convert(values: Any, kind: type[T]) -> T:
    """Returns the value of a type that decoded JSON stands for.

    Raises:
        ValueError: it stands for none; begins with the field.
    """
    _decoder(kind)
    try:
        return msgspec.convert(values, kind, str_keys=True)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except msgspec.ValidationError as error:
        raise ValueError(_field_first(error)) from error


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Returns the decoder of a type, made by one thread.

    What `msgspec` finds out about a struct it keeps with it before it is complete, and a second
    thread that decodes the struct meanwhile reads what isn't there: the process dies (0.22).
    """
    found = _decoders.get(kind)
    if found is None:
        with _making:
            found = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    return found


def strict_json(value: Any) -> bytes:
    """Returns a struct or any other value as JSON in one line, which `decode` reads.

    Raises:
        ValueError: a number in it isn't finite; begins with its field.
    """
    data = msgspec.json.encode(value)
    # A manifest may have tens of thousands of entries, so they are looked at where there is cause.
    if b"null" in data and (field := _first_not_finite(msgspec.to_builtins(value), "")):
        raise ValueError(f"{field} isn't a finite number")
    return data


def shown_json(value: Any, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """Returns a value as JSON for programs that read a command's output.

    Numbers that aren't finite, such as a loss that an earlier version wrote, are null.

    Args:
        value: what `json` writes.
        indent: spaces to a level; None for one line.
        ascii_only: whether other characters are escaped.
    """
    return json.dumps(_with_null(value), ensure_ascii=ascii_only, indent=indent, allow_nan=False)


def _first_not_finite(value: Any, field: str) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else field
    entries: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        entries = [(f"{field}.{key}".lstrip("."), entry) for key, entry in value.items()]
    elif isinstance(value, list | tuple):
        entries = [(f"{field}[{i}]", entry) for i, entry in enumerate(value)]
    return next((found for f, entry in entries if (found := _first_not_finite(entry, f))), None)


def _with_null(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _with_null(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(entry) for entry in value]
    return value


def line_of(error: ValueError, data: bytes) -> int | None:
    """Returns the line of a byte that an error of `decode` names; None where it names none."""
    found = _BYTE.search(str(error))
    return data.count(b"\n", 0, int(found[1])) + 1 if found else None


def _first_not_utf8(data: bytes | memoryview) -> int:
    """Returns where bytes stop to be UTF-8; `msgspec` counts from the beginning of a text."""
    try:
        bytes(data).decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def _field_first(error: msgspec.ValidationError) -> str:
    """Returns `parts[3].sha256: Expected ...` of `Expected ... - at `$.parts[3].sha256``."""
    found = _FIELD.fullmatch(str(error))
    return f"{found[2]}: {found[1]}" if found and found[2] else str(error)

"""Text from elsewhere as it may be shown: it can't move the cursor, color, hide or turn anything.

Keys, titles, names of files and hosts, events, settings and what servers say come from whoever
wrote them. Whatever is printed or logged goes through here.
"""

import re

# Controls (C0, DEL, C1), marks that turn text around, line separators, annotations, invisible tags,
# and what can't be encoded.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PASSWORD = re.compile(
    r"(?<=://)[^/\s@'\"]*:[^/\s@'\"]*@|(?<=http://)[^/\s@'\"]+@|(?<=https://)[^/\s@'\"]+@"
)


def printable(text: str, *, lines: bool = False) -> str:
    """Returns a text with such characters written out (`\\x1b`, `\\u202e`), and no passwords.

    Args:
        text: from anywhere.
        lines: whether it may have several lines, and tabs in them.
    """
    return without_passwords(_UNSAFE.sub(lambda found: _written_out(found[0], lines=lines), text))


def printable_line(text: str, most: int | None = None) -> str:
    """Returns a text as one printable line, white space as single spaces.

    Args:
        text: any.
        most: characters; a longer line ends in "...".
    """
    line = printable(" ".join(text.split()))
    return line if most is None or len(line) <= most else f"{line[: most - 3]}..."


def printable_json(text: str) -> str:
    """Returns JSON that says the same without such characters in it."""
    return _UNSAFE.sub(lambda found: _in_json(found[0]), text)


def without_passwords(text: str) -> str:
    """Returns a text whose URLs name no user and password."""
    return _PASSWORD.sub("***@", text)


def _written_out(character: str, *, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_json(character: str) -> str:
    if character in "\n\r\t":  # between values: those in texts are written out already
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))

"""The text of a document's bytes: by its byte order mark or what it declares, and never guessed."""

import codecs
import re

_MARKS = (  # UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.\-]{1,40})"""
    rb"""|<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_:.\-]{1,40})["']""",
    re.IGNORECASE,
)
_DECLARED_WITHIN = 4096  # bytes; HTML says 1024
# What pages declare by these names is read as the larger set by every browser.
_LARGER = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030"}
_LOOKED_AT = 1 << 16
_LATIN = 4  # ASCII letters to each of another alphabet, in languages with Latin letters
_NOT_IN_CP1252 = b"\0\x81\x8d\x8f\x90\x9d"
# What files in other encodings are in, mostly; a guess among all that there are says little.
_LIKELY = ["cp1252", "cp1251", "koi8_r", "shift_jis", "gb18030", "big5", "euc_kr"]


class NotTextError(Exception):
    """Bytes that can't be read as text; says which, and what to do.

    Attributes:
        line: of the first such byte, from 1.
    """

    def __init__(self, message: str, *, line: int = 1) -> None:
        """An error of a line."""
        super().__init__(message)
        self.line = line


def decode_text(data: bytes, *, file: str, declares: bool = False) -> str:
    """Returns a document's text, its line ends as `\\n`.

    Args:
        data: the whole file, decompressed.
        file: its name, for the remedy.
        declares: whether the format lets a file say its encoding, as HTML does.

    Raises:
        NotTextError: it is neither in UTF-8 nor in what its mark or declaration says, or no text.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    declared = _declared(data) if encoding is None and declares else None
    try:
        text = data.decode(encoding or declared or "utf-8")
    except UnicodeError as error:
        at, line = "a byte", 1
        if isinstance(error, UnicodeDecodeError):
            at, line = f"byte {error.start}", 1 + error.object.count(b"\n", 0, error.start)
        what = encoding or declared or "UTF-8"
        raise NotTextError(f"{at} isn't {what}; {_remedy(data, file)}", line=line) from error
    if "\0" in text:
        at = f"character {text.index(chr(0))}"
        raise NotTextError(f"{at} is a zero: it is no text, or in UTF-16 without a mark")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _declared(data: bytes) -> str | None:
    """Returns the encoding that a page says it is in, where Python has it."""
    found = _DECLARED.search(data, 0, _DECLARED_WITHIN)
    if found is None:
        return None
    try:
        info = codecs.lookup((found[1] or found[2]).decode("ascii"))
    except LookupError:
        return None
    # Those that are no encodings of text (base64, zlib) aren't for pages, nor is UTF-16 in ASCII.
    if not info._is_text_encoding or info.name.startswith("utf-"):
        return None
    return _LARGER.get(info.name, info.name)


def _remedy(data: bytes, file: str) -> str:
    """Returns how to convert a file, naming the encoding that it looks like."""
    encoding = _looks_like(data[:_LOOKED_AT])
    looks = "ENCODING" if encoding is None else encoding.replace("_", "-").upper()
    hint = "" if encoding is None else f"it may be {looks}: "
    return f"{hint}convert it with `iconv -f {looks} -t UTF-8 {file} > NEW`"


def _looks_like(data: bytes) -> str | None:
    """Returns the encoding that bytes are likely in.

    Where most words have ASCII letters alone, and the others a few more, the text is in Latin
    letters: a guess from so few bytes takes it for Cyrillic otherwise.
    """
    from charset_normalizer import from_bytes

    letters = sum(byte < 128 and chr(byte).isalpha() for byte in data)
    others = sum(byte >= 0xC0 for byte in data)
    if letters >= _LATIN * others and data.translate(None, _NOT_IN_CP1252) == data:
        return "cp1252"
    best = from_bytes(data, cp_isolation=_LIKELY).best()
    return None if best is None else best.encoding

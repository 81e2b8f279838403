"""A row of a table as a line that can be read without the table: each value behind its header."""

from collections.abc import Sequence

_ENDS = (".", "!", "?", ":", ";")


def row_text(header: Sequence[str], cells: Sequence[str]) -> str:
    """Returns `Plan: Basic; Price: 9 EUR.` for a row; a column without a header is its value alone.

    Args:
        header: the table's first row; may have fewer cells, or none.
        cells: the row's.
    """
    names = [*(" ".join(name.split()).rstrip(":") for name in header), *[""] * len(cells)]
    parts = []
    for name, cell in zip(names, cells, strict=False):
        value = " ".join(cell.split())
        if value:
            parts.append(f"{name}: {value}" if name else value)
    text = "; ".join(parts)
    return text if not text or text.endswith(_ENDS) else f"{text}."

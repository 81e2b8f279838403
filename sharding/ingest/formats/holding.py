"""Whether a table that lies in a folder holds passages, by its fields."""

from sharding.ingest.fields.field_map import FieldMap
from sharding.ingest.fields.layout import Layout, Unrecognised
from sharding.ingest.fields.names import plain
from sharding.ingest.formats.json_file import as_lines
from sharding.ingest.formats.line_blocks import line_blocks
from sharding.ingest.formats.slices import slices_of
from sharding.ingest.rows import BadRow
from sharding.ingest.source_bytes import SourceBytes
from sharding.ingest.source_file import SourceFile

_HEAD_BYTES = 1 << 16
# What says that the fields of a passage aren't there; any other fault is to be told as one.
_WITHOUT = ("unknown fields", "missing column", "wrong header", "bad JSON file")
_SELDOM_A_TEXT = "description"  # of a package, a service, an option: what configurations have


def holds_passages(file: SourceFile, fields: FieldMap) -> bool:
    """Returns whether a file has the fields of passages, or can't be read, which is to be told.

    A .json whose only text is a `description`, and which has no ids, is somebody's configuration.

    Args:
        file: a table, of whatever kind.
        fields: the names that are given.

    Raises:
        FileError: it can't be opened.
    """
    if file.kind == "tar":
        return True  # whose samples have fields of their own
    is_json = file.kind == "json"
    file = as_lines(file)
    if file.is_text:
        source = SourceBytes(file)
        blocks = line_blocks(file, source, fields=fields, quoting="csv", block_bytes=_HEAD_BYTES)
        block = next(blocks)
        layout = block.layout
        if not block.data.strip():
            return block.fault is not None
        return not isinstance(layout, Unrecognised) and not (is_json and _is_configured(layout))
    first = next(slices_of(file, fields, row_group=None, slice_bytes=1)[0], None)
    if isinstance(first, BadRow):
        return first.reason not in _WITHOUT
    if not is_json:
        return True
    if first is None or not first.values[0].startswith(b"{"):
        return False
    return not _is_configured(first.layout)


def _is_configured(layout: Layout) -> bool:
    return layout.id is None and plain(layout.text) == _SELDOM_A_TEXT

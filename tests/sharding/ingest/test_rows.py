import pytest

from sharding.errors import CorpusError
from sharding.ingest.fields.field_map import FieldMap, parse_field_map


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", FieldMap()),
        ("id=_id,text=contents", FieldMap(id="_id", text="contents")),
        (" title = name ", FieldMap(title="name")),
        ("title=", FieldMap(title=None)),
        ("id=a=b", FieldMap(id="a=b")),
    ],
)
def test_maps_name_what_differs(text: str, fields: FieldMap) -> None:
    assert parse_field_map(text) == fields


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_id", "'_id' names no field"),
        ("key=_id", "names no field.*such as id=_id"),
        ("id=a,id=b", "id is named twice"),
        ("text=", "text needs a name"),
        ("id=text", "two fields have the same name"),
    ],
)
def test_maps_that_cannot_be_meant_are_refused(text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        parse_field_map(text)

"""The names that `--map` gives for a passage's fields."""

from dataclasses import dataclass

from sharding.errors import CorpusError

_ALLOWED = "--map takes id=NAME, title=NAME and text=NAME, such as id=_id,text=contents"


@dataclass(frozen=True, slots=True)
class FieldMap:
    """The names that a source has for a passage's fields.

    A field that keeps its own name is recognised: by that name, else by those of `names`, and ids
    are made where there are none. No `title` makes every title empty.
    """

    id: str = "id"
    title: str | None = "title"
    text: str = "text"

    def given(self) -> dict[str, str]:
        """Returns the names that are others than the fields' own, by field."""
        named = {"id": self.id, "title": self.title, "text": self.text}
        return {field: name for field, name in named.items() if name is not None and name != field}


def parse_field_map(text: str) -> FieldMap:
    """Returns the map that `id=_id,text=contents` means; `title=` says that there are no titles.

    Raises:
        CorpusError: another field is named, one twice, or id or text has no name.
    """
    found: dict[str, str | None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        field, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or field not in ("id", "title", "text"):
            raise CorpusError(f"--map {text}: {part!r} names no field of a passage; {_ALLOWED}")
        if field in found:
            raise CorpusError(f"--map {text}: {field} is named twice; name it once")
        if not name and field != "title":
            raise CorpusError(f"--map {text}: {field} needs a name; only title may have none")
        found[field] = name or None
    fields = FieldMap(**found)  # type: ignore[arg-type] # only title may be None, checked above
    names = [name for name in (fields.id, fields.title, fields.text) if name is not None]
    if len(set(names)) != len(names):
        raise CorpusError(f"--map {text}: two fields have the same name; {_ALLOWED}")
    return fields

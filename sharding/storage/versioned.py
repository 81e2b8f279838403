"""JSON files that say their format and version: one way to read and to write them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from sharding.errors import PolypragError
from sharding.storage.decoding import convert, decode, strict_json
from sharding.storage.files import atomic_write, exists, read_small

_MAX_BYTES = 1 << 28  # of a manifest; 100 million passages have half of that

Values = dict[str, Any]

# Larger numbers than int64 has would overflow where they are used.
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
UnixSeconds = Annotated[float, msgspec.Meta(ge=0, lt=2.0**37)]  # until the year 6325
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something in a JSON file whose fields are all known, and all of their types."""

    def check(self) -> None:
        """Raises `ValueError` that begins with a field, where types don't tell that it can't be."""


T = TypeVar("T", bound=Stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind(Generic[T]):
    """A kind of file, and what to say where a file isn't of it.

    Attributes:
        struct: what a file of the newest version holds.
        form: what the file's `format` must be.
        version: the newest, which is the one that is written.
        what: what it is, with its article.
        error: what is raised where a file can't be used.
        make: what to do where there is no such file, such as "run `polyprag prepare` first".
        remedy: what to do where it is damaged or of another version.
        upgrades: by older version that is read, what makes its values the newest version's;
            `version` is set afterwards.
    """

    struct: type[T]
    form: str
    version: int
    what: str
    error: type[PolypragError]
    make: str
    remedy: str
    upgrades: Mapping[int, Callable[[Values], Values]] = field(default_factory=dict)

    @property
    def readable(self) -> set[int]:
        """The versions that are read."""
        return {self.version, *self.upgrades}

    def read(self, url: str) -> T:
        """Returns what a file holds, checked.

        Raises:
            PolypragError: `error`, where it isn't there or says something that can't be; names the
                file, the field and what to do. What `read_small` raises, where it can't be read.
        """
        data = self._bytes(url)
        try:
            version, names = self._said(data)
            if version != self.version:
                return self.checked(self._upgraded(decode(data, object), version))
            self._refuse_lacking(names)
            found = decode(data, self.struct)
            found.check()
        except ValueError as error:
            raise self.error(f"{url}: {error}; {self.remedy}") from error
        return found

    def values(self, url: str) -> Values:
        """Returns a file's fields as the newest version has them, whatever they hold.

        Raises:
            PolypragError: as of `read`, where there is no telling its fields.
        """
        data = self._bytes(url)
        try:
            version, _ = self._said(data)
            return self._upgraded(decode(data, object), version)
        except ValueError as error:
            raise self.error(f"{url}: {error}; {self.remedy}") from error

    def converted(self, values: Values) -> T:
        """Returns the struct of the newest version's values, unchecked but for its types.

        Raises:
            ValueError: a field is of another type, unknown or missing; begins with the field.
        """
        self._refuse_lacking(values)
        return convert(values, self.struct)

    def checked(self, values: Values) -> T:
        """Returns the struct of the newest version's values.

        Raises:
            ValueError: they can't be; begins with the field.
        """
        found = self.converted(values)
        found.check()
        return found

    def write(self, url: str | Path, value: T, *, indent: int = 1) -> None:
        """Writes a file, atomically.

        Args:
            url: of the file.
            value: what it is to hold.
            indent: spaces to a level; -1 for all of it in one line.

        Raises:
            PolypragError: `error`, where a number isn't finite, which couldn't be read back; the
                file stays as it was.
        """
        # With tens of thousands of entries `asdict` and `json` take seconds, and a command that
        # rewrites shards saves every other second.
        try:
            data = strict_json(value)
        except ValueError as error:
            raise self.error(f"{url}: isn't written, it stays as it was: {error}") from error
        with atomic_write(url) as file:
            file.write((data if indent < 0 else msgspec.json.format(data, indent=indent)) + b"\n")

    def _bytes(self, url: str) -> bytes:
        if not exists(url):
            raise self.error(f"{url}: no such file; {self.make}")
        return read_small(url, at_most=_MAX_BYTES)

    def _said(self, data: bytes) -> tuple[int, Collection[str]]:
        """Returns a file's version and the names of its fields; `ValueError` if it isn't read."""
        try:
            fields = decode(data, dict[str, msgspec.Raw])
            form = decode(fields.get("format", b"null"), object)
            version = decode(fields.get("version", b"null"), object)
        except ValueError as error:
            raise ValueError(f"not {self.what}: {error}") from error
        if form != self.form:
            raise ValueError(f'not {self.what} (format must be "{self.form}")')
        if type(version) is not int or version not in self.readable:
            raise ValueError(
                f"version {version!r} can't be read by this polyprag, which reads version "
                f"{self.version}"
            )
        return version, fields

    def _upgraded(self, values: Any, version: int) -> Values:
        upgraded: Values = values
        if version != self.version:
            upgraded = self.upgrades[version](values) | {"version": self.version}
        return upgraded

    def _refuse_lacking(self, names: Collection[str]) -> None:
        """Raises `ValueError` for a field that isn't there; defaults are for code alone."""
        for each in msgspec.structs.fields(self.struct):
            if each.encode_name not in names:
                raise ValueError(f"Object missing required field `{each.encode_name}`")


def require_field(ok: bool, name: str, allowed: str) -> None:
    """Raises `ValueError` that a field must be something else, unless all is well."""
    if not ok:
        raise ValueError(f"{name} must be {allowed}")

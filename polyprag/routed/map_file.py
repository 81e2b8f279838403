"""RUN/router: a routing map on disk, and what it was made of.

The weights are written first and `router.json`, which names their checksum, last. A kill between
the two leaves a map that is refused.
"""

import hashlib
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Self

from polyprag.encoding.manifest import EncodingManifest
from polyprag.errors import FileError, RunError
from sharding.storage.files import atomic_write, exists, join, read_bytes, remove_directory
from sharding.storage.versioned import FileKind, Positive, Sha256, Stored, require_field

if TYPE_CHECKING:
    from polyprag.routed.map import Fitted, RoutingMap

ROUTER = "router"
SETTINGS, WEIGHTS = "router.json", "router.safetensors"
DISTIL_AGAIN = "run `polyprag distill RUN` again"
_FORMAT, _VERSION = "polyprag-router", 1


class MadeOf(Stored, frozen=True):
    """What a map was distilled from; it fits no other.

    Attributes:
        encoding: SHA-256 of the checksums of the encoding's experts and rows.
        encoder: `QueryEncoder.identity`.
    """

    encoding: str
    encoder: str

    @classmethod
    def of(cls, encoding: EncodingManifest, *, encoder: str) -> Self:
        """Returns that of an encoding and an encoder."""
        digests = [encoding.experts.sha256, *(part.sha256 for part in encoding.parts)]
        return cls(hashlib.sha256(" ".join(digests).encode()).hexdigest(), encoder)


class MapSettings(Stored, frozen=True, kw_only=True):
    """`router.json`.

    Attributes:
        made_of: what the map was distilled from.
        num_sites: S.
        num_questions: that were there to distil from.
        num_passages: that they ask about.
        cosine: see `polyprag.routed.map.Fitted`.
        num_bytes: of the weights.
        sha256: of the weights.
    """

    format: str = _FORMAT
    version: int = _VERSION
    made_of: MadeOf
    num_sites: Positive
    num_questions: Positive
    num_passages: Positive
    cosine: float | None
    num_bytes: Positive
    sha256: Sha256

    @classmethod
    def load(cls, directory: str) -> "MapSettings":
        """Reads and checks `router.json`.

        Raises:
            RunError: it isn't there, or says something that can't be; names the field.
        """
        return _SETTINGS_FILE.read(join(directory, SETTINGS))

    def check(self) -> None:
        """Raises `ValueError` naming the field that can't be."""
        require_field(self.cosine is None or isfinite(self.cosine), "cosine", "finite or null")


_SETTINGS_FILE = FileKind(
    struct=MapSettings,
    form=_FORMAT,
    version=_VERSION,
    what="a router's settings",
    error=RunError,
    make="run `polyprag distill RUN` first",
    remedy=DISTIL_AGAIN,
)


def map_dir(run_dir: str | Path) -> str:
    """Returns `RUN/router`."""
    return join(run_dir, ROUTER)


def save_map(
    run_dir: str | Path,
    fitted: "Fitted",
    *,
    made_of: MadeOf,
    num_questions: int,
    num_passages: int,
) -> MapSettings:
    """Writes a map in place of the one that is there; see `MapSettings`."""
    from safetensors.torch import save

    directory = map_dir(run_dir)
    data = save(fitted.map.tensors())
    settings = MapSettings(
        made_of=made_of,
        num_sites=fitted.map.num_sites,
        num_questions=num_questions,
        num_passages=num_passages,
        cosine=fitted.cosine,
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    settings.check()
    with atomic_write(join(directory, WEIGHTS)) as file:
        file.write(data)
    _SETTINGS_FILE.write(join(directory, SETTINGS), settings)
    return settings


def load_map(run_dir: str | Path, *, made_of: MadeOf) -> "RoutingMap":
    """Reads the map of a run.

    Args:
        run_dir: RUN.
        made_of: what is there now.

    Raises:
        RunError: there is none, it is damaged, or it was made of something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from polyprag.routed.map import RoutingMap

    directory = map_dir(run_dir)
    settings = MapSettings.load(directory)
    for name in stale(settings, made_of):
        raise RunError(
            f"{join(directory, SETTINGS)}: {name} has changed since the map was made, so that it "
            f"would mix the wrong experts; {DISTIL_AGAIN}"
        )
    url = join(directory, WEIGHTS)
    try:
        data = read_bytes(url)
    except FileError as error:
        raise RunError(f"{error}; {DISTIL_AGAIN}") from error
    if hashlib.sha256(data).hexdigest() != settings.sha256:
        raise RunError(f"{url}: SHA-256 differs from that in {SETTINGS}; {DISTIL_AGAIN}")
    try:
        return RoutingMap(load(data), num_sites=settings.num_sites)
    except (SafetensorError, ValueError) as error:
        raise RunError(f"{url}: not a routing map ({error}); {DISTIL_AGAIN}") from error


def stale(settings: MapSettings, made_of: MadeOf) -> list[str]:
    """Returns what has changed since a map was made, in words."""
    of = settings.made_of
    changed = ["RUN/encoding"] if of.encoding != made_of.encoding else []
    return changed + (["the encoder of RUN/index"] if of.encoder != made_of.encoder else [])


def remove_map(run_dir: str | Path) -> bool:
    """Deletes RUN/router, settings first; returns whether there was anything."""
    directory = map_dir(run_dir)
    there = exists(directory)
    remove_directory(directory)
    return there

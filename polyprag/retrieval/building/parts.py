"""Makes an index's components where they aren't there: here, or as pieces by other workers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polyprag.retrieval.building.pieces import BuildPlace, Piece, Work, make_piece
from polyprag.retrieval.building.progress import BuildProgress
from polyprag.retrieval.parts.components import Component, directory_name, keep_or_make
from polyprag.retrieval.parts.index_store import IndexStore
from sharding.task_pool import TaskPool

LAYOUT = 4  # of the parts' files; raise it with any change, so that old parts are rebuilt


class Parts:
    """The components of an index that is being built.

    Attributes:
        place: RUN/index.
        progress: is told of the passages that a part is done with.
    """

    def __init__(self, place: IndexStore, pieces_at: BuildPlace, progress: BuildProgress) -> None:
        """Makes nothing yet.

        Args:
            place: RUN/index.
            pieces_at: the same, for tasks.
            progress: see above.
        """
        self.place, self.progress, self._pieces_at = place, progress, pieces_at

    def found(self, name: str, **made_from: Any) -> Component | None:
        """Returns a component if it is there.

        Args:
            name: what kind of component it is.
            made_from: JSON values that decide its contents.
        """
        return self.place.finished(directory_name(name, _with_layout(made_from)))

    def here(self, name: str, write: Callable[[Path], None], **made_from: Any) -> Component:
        """Returns a component that this process makes unless it is there.

        Args:
            name: what kind of component it is.
            write: fills an empty directory.
            made_from: JSON values that decide its contents.
        """
        made_from = _with_layout(made_from)
        component, _ = keep_or_make(self.place, name, made_from=made_from, write=write)
        return component

    def piece(self, name: str, work: Work, *, num_passages: int, **made_from: Any) -> Piece:
        """Returns a component that a worker is to make; see `Piece`."""
        return Piece(self._pieces_at, name, _with_layout(made_from), work, num_passages)

    def made(self, pieces: Sequence[Piece], pool: TaskPool) -> list[Component]:
        """Returns all of these, made in parallel where they aren't there, and told of."""
        made = []
        for piece, component in zip(pieces, pool.map(make_piece, pieces), strict=True):
            self.progress.advance(piece.num_passages)
            made.append(component)
        return made


def _with_layout(made_from: dict[str, Any]) -> dict[str, Any]:
    return {"layout": LAYOUT, **made_from}

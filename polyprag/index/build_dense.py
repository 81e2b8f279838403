"""Builds the FAISS indexes of a segment from its embeddings.

A sample trains an empty index, tasks fill copies of it, and the copies are joined: inverted files
on disk, list by list. What FAISS can't join, Flat and graphs, is searched in parts of a million
vectors.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polyprag.config import IndexConfig
from polyprag.index.build_progress import BuildProgress
from polyprag.index.components import Component, directory_name, keep_or_make
from polyprag.index.embeddings import Embeddings
from polyprag.index.faiss_factory import AUTO, can_train, empty_index, factory_for, inverted_file
from polyprag.index.faiss_index import (
    FILE,
    gpus_wanted,
    read_index,
    trained_index,
    write_index,
    write_place,
)
from polyprag.index.faiss_merge import is_joined_on_disk, join_on_disk, pack, plain_twin
from polyprag.index.groups import Group, runs_of
from polyprag.index.pieces import BuildPlace, Filled, Piece, make_piece
from polyprag.index.place import IndexPlace
from sharding.task_pool import TaskPool

_PART = 1 << 20  # passages of a part that FAISS can't join with others
_SAMPLE_A_LIST = 64  # vectors for each list of an inverted file
_MIN_SAMPLE = 1 << 16
_EXACT_BELOW = 100_000  # passages of a later segment: see `_factory`


class DenseBuild:
    """What it takes to build a segment's FAISS indexes."""

    def __init__(
        self,
        place: IndexPlace,
        pieces_at: BuildPlace,
        config: IndexConfig,
        pool: TaskPool,
        progress: BuildProgress,
        *,
        layout: int,
    ) -> None:
        """Builds nothing yet.

        Args:
            place: RUN/index.
            pieces_at: the same, for tasks.
            config: `factory` and `gpu`.
            pool: fills the indexes.
            progress: is told of passages.
            layout: of the files.
        """
        self._place, self._pieces_at, self._config = place, pieces_at, config
        self._pool, self._progress, self._layout = pool, progress, layout

    def indexes(
        self,
        groups: Sequence[Group],
        embeddings: Sequence[Component],
        *,
        removed: npt.NDArray[np.int64],
        is_base: bool,
    ) -> list[Component]:
        """The indexes, over consecutive passages, in place.

        Args:
            groups: of the segment.
            embeddings: of each group.
            removed: ascending positions in the segment that have no vector.
            is_base: whether it is the index's base.

        Raises:
            ConfigError: `index.factory` isn't a factory string, or doesn't fit the vectors.
        """
        num_passages = sum(group.span.num_passages for group in groups)
        named = [component.directory for component in embeddings]
        local = [self._place.local(component) for component in embeddings]
        vectors = Embeddings.open(local, num_passages=num_passages)
        live = np.setdiff1d(np.arange(num_passages), removed)
        factory = self._factory(len(live), vectors.dims, is_base=is_base)
        twin = plain_twin(vectors.dims, factory)
        kind = empty_index(vectors.dims, factory) if twin is None else twin
        is_joined = is_joined_on_disk(kind)
        made_from = {
            "layout": self._layout,
            "embeddings": named,
            "factory": factory,
            "removed": removed.tolist(),
        }
        one_a_group = [[i] for i in range(len(groups))]
        runs = one_a_group if is_joined else runs_of(groups, max_passages=_PART)
        wanted = [made_from] if is_joined else [made_from | {"groups": run} for run in runs]
        found = [self._place.finished(directory_name("dense", each)) for each in wanted]
        whole = [component for component in found if component is not None]
        if len(whole) == len(wanted):
            self._progress.advance(num_passages)
            return whole
        trained = self._trained(kind, vectors, live, factory, named)
        first_ids = [group.span.first_id - groups[0].span.first_id for group in groups]
        pieces = []
        for number, run in enumerate(runs):
            first = first_ids[run[0]]
            count = sum(groups[i].span.num_passages for i in run)
            inside = removed[(removed >= first) & (removed < first + count)]
            work = Filled(
                trained,
                tuple(embeddings[i] for i in run),
                first,
                count,
                tuple(inside.tolist()),
                is_joined,
            )
            from_group = {
                "layout": self._layout,
                "trained": trained.directory,
                "embeddings": [named[i] for i in run],
                "first": first,
                "removed": inside.tolist(),
            }
            pieces.append(
                Piece(
                    self._pieces_at,
                    "filled" if is_joined else "dense",
                    from_group if is_joined else wanted[number],
                    work,
                    count,
                )
            )
        filled = []
        for piece, component in zip(pieces, self._pool.map(make_piece, pieces), strict=True):
            self._progress.advance(piece.num_passages)
            filled.append(component)
        if not is_joined:
            return filled
        return [self._joined(trained, filled, made_from, is_packed=twin is not None)]

    def _factory(self, num_vectors: int, dims: int, *, is_base: bool) -> str:
        """The factory string of a segment.

        A later one is searched exactly unless it is large enough to be worth training: it costs
        little, and an inverted file or a quantiser needs many vectors.
        """
        chosen = self._config.factory
        if chosen == AUTO:
            return factory_for(num_vectors, dims, gpu=gpus_wanted(self._config.gpu))
        is_short = num_vectors < _EXACT_BELOW
        if not is_base and (is_short or not can_train(empty_index(dims, chosen), num_vectors)):
            return "Flat"
        return chosen

    def _trained(
        self,
        kind: Any,
        vectors: Embeddings,
        live: npt.NDArray[np.int64],
        factory: str,
        named: list[str],
    ) -> Component:
        ivf = inverted_file(kind)
        wanted = max(_MIN_SAMPLE, 0 if ivf is None else _SAMPLE_A_LIST * ivf.nlist)
        count = 0 if kind.is_trained else min(len(live), wanted)
        chosen = live[np.linspace(0, max(len(live) - 1, 0), count).round().astype(np.int64)]

        def write(directory: Path) -> None:
            index = trained_index(
                kind,
                None if kind.is_trained else vectors.take(chosen),
                factory=factory,
                gpu=self._config.gpu,
            )
            write_index(directory, index)

        # A kind that needs no training is the same whatever it will be filled with.
        sample = [] if kind.is_trained else [named, chosen.tolist()[-1:], count]
        return self._component("trained", write, factory=factory, dims=vectors.dims, sample=sample)

    def _joined(
        self,
        trained: Component,
        filled: Sequence[Component],
        made_from: dict[str, Any],
        *,
        is_packed: bool,
    ) -> Component:
        def write(directory: Path) -> None:
            paths = [self._place.local(component) / FILE for component in filled]
            join_on_disk(directory / FILE, read_index(self._place.local(trained)), paths)
            if is_packed:
                pack(directory / FILE)
            write_place(directory, first=0)

        component, _ = keep_or_make(self._place, "dense", made_from=made_from, write=write)
        return component

    def _component(self, name: str, write: Callable[[Path], None], **made_from: Any) -> Component:
        component, _ = keep_or_make(
            self._place, name, made_from={"layout": self._layout, **made_from}, write=write
        )
        return component

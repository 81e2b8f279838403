"""Builds the FAISS indexes of a segment from its embeddings.

A sample trains an empty index, tasks fill copies of it, and the copies are joined: inverted files
on disk, list by list. What FAISS can't join, Flat and graphs, is searched in parts of a million
vectors.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polyprag.config import IndexConfig
from polyprag.retrieval.building.groups import Group, group_ranges
from polyprag.retrieval.building.part_maker import PartMaker
from polyprag.retrieval.building.work import Filled
from polyprag.retrieval.dense.embeddings import Embeddings
from polyprag.retrieval.dense.faiss_factory import (
    AUTO,
    can_train,
    check_factory,
    empty_index,
    factory_for,
    inverted_file,
)
from polyprag.retrieval.dense.faiss_index import (
    FILE,
    gpus_wanted,
    read_index,
    write_index,
    write_place,
)
from polyprag.retrieval.dense.faiss_merge import (
    is_joined_on_disk,
    join_on_disk,
    pack_codes,
    plain_twin,
)
from polyprag.retrieval.dense.faiss_training import trained_index
from polyprag.retrieval.encoders.choice import cheap_dims
from polyprag.retrieval.parts.part import IndexPart
from sharding.task_pool import TaskPool

_PART = 1 << 20  # passages of a part that FAISS can't join with others
_SAMPLE_A_LIST = 64  # vectors for each list of an inverted file
_MIN_SAMPLE = 1 << 16
_EXACT_BELOW = 100_000  # passages of a later segment: see `_factory`


class DenseBuild:
    """Builds the FAISS indexes of segments."""

    def __init__(self, parts: PartMaker, config: IndexConfig, pool: TaskPool) -> None:
        """Builds nothing yet.

        Args:
            parts: makes those of the index.
            config: `factory` and `gpu`.
            pool: fills the indexes.
        """
        self._parts, self._config, self._pool = parts, config, pool

    def check(self, encoder: IndexPart, *, num_vectors: int) -> None:
        """Refuses a factory string that can't be used, before anything is encoded.

        Args:
            encoder: of the index.
            num_vectors: that the base will have.

        Raises:
            ConfigError: FAISS doesn't know it, it doesn't fit the vectors, or it needs more.
        """
        dims = cheap_dims(self._parts.store.local(encoder))
        check_factory(self._config.factory, dims=dims, num_vectors=num_vectors)

    def indexes(
        self,
        groups: Sequence[Group],
        embeddings: Sequence[IndexPart],
        *,
        removed: npt.NDArray[np.int64],
        is_base: bool,
    ) -> list[IndexPart]:
        """Returns the indexes over consecutive passages, built where they aren't there.

        Args:
            groups: of the segment.
            embeddings: of each group.
            removed: ascending positions in the segment that have no vector.
            is_base: whether it is the index's base.

        Raises:
            ConfigError: `index.factory` isn't a factory string, or doesn't fit the vectors.
        """
        sizes = [group.span.num_passages for group in groups]
        starts = [0, *accumulate(sizes)]
        named = [part.directory for part in embeddings]
        dims = self._opened(embeddings[:1], sizes[0]).dims
        live = np.setdiff1d(np.arange(starts[-1]), removed)
        factory = self._factory(len(live), dims, is_base=is_base)
        twin = plain_twin(dims, factory)
        kind = empty_index(dims, factory) if twin is None else twin
        is_joined = is_joined_on_disk(kind)
        made_from = {"embeddings": named, "factory": factory, "removed": removed.tolist()}
        if is_joined:
            ranges, wanted = [[i] for i in range(len(groups))], [made_from]
        else:
            ranges = group_ranges(groups, max_passages=_PART)
            wanted = [made_from | {"groups": numbers} for numbers in ranges]
        found = [self._parts.found("dense", **each) for each in wanted]
        whole = [part for part in found if part is not None]
        if len(whole) == len(wanted):
            self._parts.progress.advance(starts[-1])
            return whole

        def sample(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            return self._opened(embeddings, starts[-1]).take(positions)

        trained = self._trained(kind, sample, live, factory, named)
        tasks = []
        for at, numbers in enumerate(ranges):
            first, end = starts[numbers[0]], starts[numbers[-1] + 1]
            inside = removed[(removed >= first) & (removed < end)].tolist()
            work = Filled(
                trained,
                tuple(embeddings[i] for i in numbers),
                first,
                end - first,
                tuple(inside),
                is_joined,
            )
            filled_from = {
                "trained": trained.directory,
                "embeddings": [named[i] for i in numbers],
                "first": first,
                "removed": inside,
            }
            tasks.append(
                self._parts.task("filled", work, num_passages=end - first, **filled_from)
                if is_joined
                else self._parts.task("dense", work, num_passages=end - first, **wanted[at])
            )
        filled = self._parts.make_all(tasks, self._pool)
        if not is_joined:
            return filled
        return [self._joined(trained, filled, made_from, is_packed=twin is not None)]

    def _opened(self, embeddings: Sequence[IndexPart], num_passages: int) -> Embeddings:
        local = [self._parts.store.local(part) for part in embeddings]
        return Embeddings.open(local, num_passages=num_passages)

    def _factory(self, num_vectors: int, dims: int, *, is_base: bool) -> str:
        """Returns the factory string of a segment.

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
        sample: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]],
        live: npt.NDArray[np.int64],
        factory: str,
        named: list[str],
    ) -> IndexPart:
        ivf = inverted_file(kind)
        wanted = max(_MIN_SAMPLE, 0 if ivf is None else _SAMPLE_A_LIST * ivf.nlist)
        count = 0 if kind.is_trained else min(len(live), wanted)
        chosen = live[np.linspace(0, max(len(live) - 1, 0), count).round().astype(np.int64)]

        def write(directory: Path) -> None:
            index = trained_index(
                kind,
                None if kind.is_trained else sample(chosen),
                factory=factory,
                gpu=self._config.gpu,
            )
            write_index(directory, index)

        # A kind that needs no training is the same whatever it will be filled with.
        sampled = [] if kind.is_trained else [named, chosen.tolist()[-1:], count]
        return self._parts.make("trained", write, factory=factory, dims=kind.d, sample=sampled)

    def _joined(
        self,
        trained: IndexPart,
        filled: Sequence[IndexPart],
        made_from: dict[str, Any],
        *,
        is_packed: bool,
    ) -> IndexPart:
        def write(directory: Path) -> None:
            paths = [self._parts.store.local(part) / FILE for part in filled]
            join_on_disk(directory / FILE, read_index(self._parts.store.local(trained)), paths)
            if is_packed:
                pack_codes(directory / FILE)
            write_place(directory, first=0)

        return self._parts.make("dense", write, **made_from)

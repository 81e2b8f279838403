"""The keys and values of sequences that are decoded together, each of its own length.

All sequences end at one column, so that a step writes one column whatever their lengths, and the
model sees an ordinary batch that was padded on the left. A sequence joins with what its prompt left
here, moved to that column; one that has ended gives its row to another. Nothing is copied in a step
itself: buffers are made with room and grow by doubling. Where prompts go on from a prefix that was
read before, its keys and values are put before the rest of each, wherever in its row that begins.

R rows, H heads, C columns, P tokens of a prefix, q tokens of a step.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from polyprag.method.batches.prefix import SharedPrefix

_LEAST_COLUMNS = 64


@dataclass(slots=True)
class _Place:
    """Where the sequences lie in all layers' buffers: rows [0, rows), columns [start, end)."""

    rows: int = 0
    start: int = 0
    end: int = 0
    prefix_columns: Tensor | None = None  # (R, P), while prompts are read that go on from one
    prefix_end: int = 0  # the column after the last of them

    @property
    def width(self) -> int:
        return self.end - self.start


class _SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__
    """The keys and values of one layer, each (R, H, C, head size) with room."""

    def __init__(self, place: _Place) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._place = place
        self.buffers: list[Tensor] = []  # keys, values
        self.prefix: tuple[Tensor, Tensor] | None = None  # each (1, H, P, head size)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes (R, H, q, head size) behind the end, and returns all from the start on.

        The end stays where it is until every layer has written.
        """
        place, new = self._place, (key_states, value_states)
        self.begin(new)
        end = place.end + key_states.shape[2]
        found = []
        for i, states in enumerate(new):
            self.buffers[i] = _with_room(self.buffers[i], rows=place.rows, columns=end)
            self.buffers[i][: place.rows, :, place.end : end] = states
            if self.prefix is not None:
                self._put_prefix(i, self.prefix[i])
            found.append(self.buffers[i][: place.rows, :, place.start : end])
        return found[0], found[1]

    def _put_prefix(self, i: int, kept_1HPD: Tensor) -> None:
        """Puts the prefix at its columns, where a step may have written what is padding."""
        place, columns_RP = self._place, self._place.prefix_columns
        assert columns_RP is not None
        rows_R1 = torch.arange(place.rows, device=columns_RP.device)[:, None]
        buffer = _with_room(self.buffers[i], rows=place.rows, columns=place.prefix_end)
        buffer[rows_R1, :, columns_RP] = kept_1HPD[0].transpose(0, 1)
        self.buffers[i] = buffer

    def begin(self, states: Sequence[Tensor]) -> None:
        """Makes empty buffers for such keys and values, where there are none."""
        if not self.buffers:
            keys, _ = states
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
            self.buffers = [each.new_zeros(0, each.shape[1], 0, each.shape[3]) for each in states]

    def get_seq_length(self) -> int:
        """Returns how many columns there are before a step."""
        return self._place.width


def _with_room(buffer: Tensor, *, rows: int, columns: int) -> Tensor:
    """Returns the buffer, or one with more room and the same in it.

    Zeros where nothing was written: what is masked must still be finite.
    """
    old_rows, heads, old_columns, size = buffer.shape
    if rows <= old_rows and columns <= old_columns:
        return buffer
    new_columns = max(_grown(old_columns, columns), _LEAST_COLUMNS)
    new = buffer.new_zeros(_grown(old_rows, rows), heads, new_columns, size)
    new[:old_rows, :, :old_columns] = buffer
    return new


def _grown(have: int, needed: int) -> int:
    """Returns a size that is enough, and twice the one before where that isn't."""
    return have if needed <= have else max(needed, 2 * have)


class SlotCache(Cache):
    """The keys and values of all layers, for sequences that join and leave."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Makes an empty one; what it takes is allocated when something is written."""
        self._place, self._device = _Place(), model.device
        number = len(DynamicCache(config=model.config).layers)
        self._slots = [_SlotLayer(self._place) for _ in range(number)]
        super().__init__(layers=list(self._slots))

    @staticmethod
    def fits(model: PreTrainedModel) -> bool:
        """Tells whether all that a model remembers of a sequence are keys and values."""
        if "past_key_values" not in inspect.signature(type(model).forward).parameters:
            return False
        layers = DynamicCache(config=model.config).layers
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        return (
            bool(layers)
            and "chunked_attention" not in kinds
            and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
        )

    @property
    def rows(self) -> int:
        """How many sequences there are."""
        return self._place.rows

    @property
    def width(self) -> int:
        """Columns of the longest sequence."""
        return self._place.width

    @property
    def num_bytes(self) -> int:
        """What the buffers take."""
        return sum(buffer.nbytes for layer in self._slots for buffer in layer.buffers)

    def open_rows(
        self, number: int, *, prefix: SharedPrefix | None = None, first: Tensor | None = None
    ) -> None:
        """Makes an empty cache one of `number` sequences without any token but a prefix.

        Args:
            number: of the rows.
            prefix: that they begin with. The next tokens go into column P and those after it.
            first: (R,) int64 on the CPU, the column of each row's first token, with a prefix.
        """
        place = self._place
        assert place.rows == 0
        place.rows, place.start, place.end = number, 0, 0
        if prefix is not None and first is not None:
            place.end = len(prefix)
            columns_RP = first[:, None] + torch.arange(len(prefix))
            place.prefix_columns = columns_RP.to(self._device)
            place.prefix_end = int(first.max()) + len(prefix)
            for layer, kept in zip(self._slots, prefix.layers, strict=False):
                layer.prefix = kept  # there are fewer where the last ones keep none of their own

    def advance(self, tokens: int) -> None:
        """Takes in what a pass of the model has written."""
        self._place.end += tokens

    def join(self, other: "SlotCache", rows: Sequence[int]) -> None:
        """Adds sequences of another cache as the last rows; one may be taken several times."""
        place, theirs = self._place, other._place
        if place.rows == 0:
            place.start, place.end = 0, theirs.width
        more = theirs.width - place.width
        if more > place.start:
            self._move(more)
        place.start -= max(more, 0)
        first = place.rows
        place.rows += len(rows)
        for mine, layer in zip(self._slots, other._slots, strict=True):
            if not layer.buffers:
                continue  # a layer that shares another's
            index = torch.tensor(rows, device=layer.buffers[0].device)
            taken = [buffer[:, :, theirs.start : theirs.end][index] for buffer in layer.buffers]
            mine.begin(taken)
            for i, states in enumerate(taken):
                buffer = _with_room(mine.buffers[i], rows=place.rows, columns=place.end)
                buffer[first : place.rows, :, place.end - theirs.width : place.end] = states
                mine.buffers[i] = buffer

    def keep(self, rows: Sequence[int], *, width: int) -> None:
        """Keeps these rows, as the first ones in this order, and their last `width` columns."""
        place = self._place
        if not rows:
            place.rows, place.start, place.end = 0, 0, 0
            return
        moved = [(to, row) for to, row in enumerate(rows) if to != row]
        for layer in self._slots if moved else ():
            for buffer in layer.buffers:
                to, row = torch.tensor(moved, device=buffer.device).T
                live = buffer[:, :, place.start : place.end]
                live[to] = live[row]
        place.rows = len(rows)
        place.start = place.end - width
        if place.start > max(width, _LEAST_COLUMNS):  # moved by less than was written since
            self._move(0)

    def _move(self, start: int) -> None:
        """Moves the columns so that they begin at `start`."""
        place = self._place
        by = start - place.start
        for layer in self._slots:
            for i, buffer in enumerate(layer.buffers):
                live = buffer[: place.rows, :, place.start : place.end].clone()
                buffer = _with_room(buffer, rows=place.rows, columns=place.end + by)
                buffer[: place.rows, :, start : place.end + by] = live
                layer.buffers[i] = buffer
        place.start, place.end = start, place.end + by

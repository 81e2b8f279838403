"""Gates belong to a forward pass: layers see what their own call, in their own thread, was given.

A model has no gates of its own. They are held for a block of code, in a context variable, so two
threads with one model can't meet. The passes inside the block add their batch and length, by which
a layer knows whose tokens it has where a model flattens its activations to (B * T, d).

Shapes: B sequences, T tokens, S sites, K experts, R rows of gates, KR = K * rank.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GateShapeError(ValueError):
    """A layer can't tell which sequence, or which token, each of its activations belongs to."""


class _Block:
    """A `with` block that gates are held for; whatever copied its context can see its end."""

    ended = False


@dataclass(frozen=True, slots=True, eq=False)
class WideGates:
    """Gates as the layers use them, so that passes with the same gates make them once.

    Attributes:
        sites: per site (R, KR), gates times scale, in the base's dtype.
    """

    sites: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PassGates:
    """What the expert layers of a forward pass weigh their experts by.

    Attributes:
        sites: per site (R, KR), gates times scale; none: the pass is closed-book.
        token_rows: (B, T) int64, the row of each token; None: row i is that of sequence i.
        needed: (n,) int64, the columns of the batch whose outputs are wanted; None: all.
        batch: (B, T) of the pass; None outside of one.
        recomputes: a backward pass runs the layers again, with the gates of their forward pass.
        outer: what the surrounding block holds.
    """

    sites: tuple[Tensor, ...] = ()
    token_rows: Tensor | None = None
    needed: Tensor | None = None
    batch: tuple[int, int] | None = None
    recomputes: bool = False
    outer: "PassGates | None" = None
    block: _Block = field(default_factory=_Block)

    def weigh(self, site: int, inner: Tensor) -> Tensor:
        """Returns the experts' inner activations times the gates of their sequence or token.

        Args:
            site: of the layer.
            inner: (B, T, KR), with further axes after B too where sequences have one row, or
                (B * T, KR).

        Raises:
            GateShapeError: it isn't known whose activations these are.
        """
        gates = self.sites[site].to(inner.dtype)
        if self.token_rows is not None:
            return self._weigh_tokens(gates, self.token_rows, inner)
        if len(gates) == 1:
            return inner * gates  # one mixture for all
        if inner.dim() > 2 and len(inner) == len(gates):
            return inner * gates.view(len(gates), *(1,) * (inner.dim() - 2), -1)
        if self._is_flat(inner) and self.batch is not None and self.batch[0] == len(gates):
            return (inner.view(*self.batch, -1) * gates.unsqueeze(1)).view(inner.shape)
        raise self._unknown(inner, f"gates for {len(gates)} sequences")

    def _weigh_tokens(self, gates: Tensor, rows: Tensor, inner: Tensor) -> Tensor:
        places = inner.shape[:-1]
        if places != rows.shape:
            fits = self.batch is None or self.batch == rows.shape
            if not (fits and self._is_flat(inner) and len(inner) == rows.numel()):
                raise self._unknown(inner, f"gates for {tuple(rows.shape)} tokens")
        return inner * F.embedding(rows, gates).view(*places, -1)

    def _is_flat(self, inner: Tensor) -> bool:
        """Whether these are all tokens of the pass, one after the other."""
        return inner.dim() == 2 and self.batch is not None and len(inner) == math.prod(self.batch)

    def _unknown(self, inner: Tensor, given: str) -> GateShapeError:
        batch = "" if self.batch is None else " in a batch of {} x {} tokens".format(*self.batch)
        return GateShapeError(
            f"{given} can't gate activations of shape {tuple(inner.shape[:-1])}{batch}: the batch "
            "must be that of the gates (no beam search), and the model must neither choose among "
            "its tokens nor reorder them"
        )


_HELD: ContextVar[Mapping["GateContext", PassGates]] = ContextVar("gates of the forward pass")


class GateContext:
    """Names one pool's gates in the context of the running code; holds none itself."""

    def __init__(
        self, *, sites: int, experts: int, rank: int, scale: float, dtype: torch.dtype
    ) -> None:
        """Takes the pool's sizes and `scale`, and the base's `dtype`."""
        self._shape = sites, experts
        self._rank = rank
        self.scale = scale
        self.dtype = dtype

    def widened(self, gates_RSK: Tensor) -> WideGates:
        """Returns gates for `holding`.

        Raises:
            ValueError: they don't have the pool's sites and experts.
        """
        if gates_RSK.dim() != 3 or gates_RSK.shape[1:] != self._shape:
            sites, experts = self._shape
            raise ValueError(
                f"gates have shape {tuple(gates_RSK.shape)}; this pool needs (B, {sites}, "
                f"{experts})"
            )
        wide = (gates_RSK.float() * self.scale).repeat_interleave(self._rank, dim=-1)
        # All sites at once: one cast, and a backward that is one stack, not S full-size gradients.
        return WideGates(wide.to(self.dtype).unbind(1))

    @contextmanager
    def holding(
        self, gates: WideGates, token_rows_BT: Tensor | None, needed_n: Tensor | None = None
    ) -> Iterator[None]:
        """Gives these gates to the passes inside the `with` block, in its thread."""
        held = PassGates(gates.sites, token_rows_BT, needed_n)
        token = self._hold(held)
        try:
            yield
        finally:
            _HELD.reset(token)
            held.block.ended = True

    def current(self) -> PassGates | None:
        """Returns the gates of the running pass; None: it is closed-book.

        Raises:
            RuntimeError: these would be another pass's.
        """
        held = _HELD.get({}).get(self)
        # The only sign that a layer runs again in a backward pass, whose thread may hold none, or
        # those of another pass by now.
        if torch._C._current_graph_task_id() != -1 and not (held and held.recomputes):
            raise RuntimeError(
                "a backward pass runs expert layers again without the gates of their forward pass: "
                "enable activation checkpointing with use_reentrant=False and "
                "context_fn=ExpertPool.recomputing"
            )
        if held is None or not held.sites:
            return None
        if held.block.ended:
            raise RuntimeError(
                "these gates belong to a block that has ended: give the forward pass its own"
            )
        return held

    def watch(self, model: nn.Module, feed_forward: nn.Module | None) -> None:
        """Follows a model's passes, and those of its last feed-forward where that is one module."""
        model.register_forward_pre_hook(self.begin_pass, with_kwargs=True)
        model.register_forward_hook(self.end_pass, always_call=True)
        if feed_forward is not None:
            feed_forward.register_forward_pre_hook(self.choose_needed)
            feed_forward.register_forward_hook(self.put_needed)

    def begin_pass(self, _: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        """Notes the batch and length of a pass that begins (a forward pre-hook of the model)."""
        held = _HELD.get({}).get(self)
        if held is not None:
            given = args[:1] or [inputs.get(name) for name in ("input_ids", "inputs_embeds")]
            tokens = next((value for value in given if isinstance(value, Tensor)), None)
            batch = None
            if tokens is not None and tokens.dim() > 1:
                batch = tokens.shape[0], tokens.shape[1]
            self._hold(replace(held, batch=batch, outer=held))

    def end_pass(self, *_: object) -> None:
        """Forgets them again (a forward hook of the model, also called when the pass fails)."""
        held = _HELD.get({}).get(self)
        if held is not None and held.outer is not None:
            self._hold(held.outer)

    def choose_needed(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Hands only the needed tokens on to the last feed-forward (its forward pre-hook).

        Nothing attends to what it says of the others, and nobody reads it.
        """
        held = _HELD.get({}).get(self)
        if held is None or held.needed is None or held.batch is None or not args:
            return None
        whole_BTd, *others = args
        if held.batch != whole_BTd.shape[:-1] or any(isinstance(one, Tensor) for one in others):
            return None  # a residual of all tokens is added in there
        needed_n, rows = held.needed, held.token_rows
        few = replace(
            held,
            token_rows=None if rows is None else rows[:, needed_n],
            batch=(held.batch[0], len(needed_n)),
            needed=None,
            outer=held,
        )
        self._hold(few)
        return whole_BTd.index_select(1, needed_n), *others

    def put_needed(self, _: nn.Module, args: tuple[Any, ...], few_Bnd: Tensor) -> Tensor | None:
        """Puts them back in their places, the others being zero (a forward hook of the same)."""
        held = _HELD.get({}).get(self)
        outer = None if held is None else held.outer
        if outer is None or outer.needed is None or held is None or held.needed is not None:
            return None
        self._hold(outer)
        assert outer.batch is not None
        whole_BTd = few_Bnd.new_zeros((*outer.batch, few_Bnd.shape[-1]))
        return whole_BTd.index_copy(1, outer.needed, few_Bnd)

    def recomputing(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Returns the contexts of a checkpointed layer's forward and of its recomputation."""
        return nullcontext(), _Recomputation(self, _HELD.get({}).get(self) or PassGates())

    def _hold(self, held: PassGates) -> Token[Mapping["GateContext", PassGates]]:
        return _HELD.set({**_HELD.get({}), self: held})


class _Recomputation(AbstractContextManager[None]):
    """Holds the gates of a forward pass again; entered once in every backward pass."""

    def __init__(self, context: GateContext, held: PassGates) -> None:
        self._context = context
        self._held = replace(held, recomputes=True, outer=None, block=_Block())
        self._tokens: list[Token[Mapping[GateContext, PassGates]]] = []

    def __enter__(self) -> None:
        self._tokens.append(self._context._hold(self._held))

    def __exit__(self, *_: object) -> None:
        _HELD.reset(self._tokens.pop())

"""A trial of a model with experts on two short sequences, as the product trains and generates.

Shapes: B = 2 sequences, T tokens, N new ones, S sites, K experts, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from polyprag.errors import ConfigError
from polyprag.method.batches.attention import attending_packed
from polyprag.method.batches.packed import packing_of
from polyprag.method.batches.prefix import read_prefix
from polyprag.method.experts import ExpertPool, GatedLoRALinear
from polyprag.method.loss import logits_at
from polyprag.method.support.weight_reads import WeightReads

_decoding: Callable[..., GenerationConfig] = GenerationConfig  # whose own has no types

LENGTHS = (5, 3)  # of the two sequences: tokens, batch and length are all different numbers
NEW_TOKENS = 2


class UnsupportedModelError(ConfigError):
    """A model's code can't carry experts where they are asked for; says why.

    Attributes:
        reason: that alone.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        """Takes the whole message, and what of it is the reason."""
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class Trial:
    """A model under trial, and what was seen of its expert layers."""

    model: PreTrainedModel
    pool: ExpertPool
    layers: Mapping[str, GatedLoRALinear]
    running: str = ""  # the layer that was called last
    called: set[str] = field(default_factory=set)
    read: set[str] = field(
        default_factory=set
    )  # layers with whose weight the model itself computed

    def refusal(self, reason: str) -> UnsupportedModelError:
        """Returns the error for a reason."""
        path = self.model.config.name_or_path or type(self.model).__name__
        targets = ", ".join(sorted({name.rpartition(".")[2] for name in self.layers}))
        return UnsupportedModelError(
            f"model.path={path!r} can't carry experts on {targets} "
            f"({type(self.model).__name__}): {reason}; choose other experts.targets or another "
            "model (docs/models.md has a table)",
            reason=reason,
        )

    def reordered(self) -> UnsupportedModelError:
        """Returns the error for a layer that can't tell whose tokens it has."""
        return self.refusal(
            f"it chooses among a batch's tokens or reorders them before {self.running} (as "
            "mixture-of-experts layers do that send each token to a few experts), so it isn't "
            "known whose tokens they are"
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notes which layers are called, and whose weights are used without calling them."""

        def note(name: str) -> Any:
            def hook(*_: object) -> None:
                self.running = name
                self.called.add(name)

            return hook

        handles = [
            layer.register_forward_pre_hook(note(name)) for name, layer in self.layers.items()
        ]
        try:
            with WeightReads(self.layers, self.read):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def run_layers(self) -> None:
        """Runs a batch, whose numbers may be missing, and looks at which layers were called."""
        ids_BT, _ = self._batch(left=False)
        with torch.no_grad(), self.pool.gated(self._gates()):
            # Code asks a mask, and positions where there is no cache, for their numbers.
            self.model(input_ids=ids_BT)
        self._check_layers()

    def train(self) -> None:
        """Runs a padded batch as training does, and compares it with each sequence alone."""
        ids_BT, mask_BT = self._batch(left=False)
        gates_BSK = self._gates()
        weights = [layer.B_cat.get_parameter("weight") for layer in self.layers.values()]
        with torch.enable_grad(), self.pool.gated(gates_BSK):
            logits_BTV = self._logits(ids_BT, mask_BT)
            self._check_layers()
            if not logits_BTV.requires_grad:
                raise self.refusal("its output has no gradients with regard to the experts")
            loss = torch.stack(
                [logits_BTV[i, :n].float().square().mean() for i, n in enumerate(LENGTHS)]
            ).sum()
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        for name, gradient in zip(self.layers, gradients, strict=True):
            if gradient is None or not gradient.any():
                raise self.refusal(f"the output of {name} doesn't reach the model's own")
        with torch.no_grad():
            with self.pool.gated(gates_BSK.flip(0)):
                swapped_BTV = self._logits(ids_BT, mask_BT)
            for i, length in enumerate(LENGTHS):
                alone_TV = self._alone(ids_BT[i, :length], gates_BSK[i])
                self._compare(
                    logits_BTV[i, :length].detach(),
                    alone_TV,
                    other=swapped_BTV[i, :length],
                    where="in a batch",
                )

    def pack(self) -> None:
        """Runs both sequences in one row, and compares what is needed of it with each alone."""
        self._pack(prefix=())

    def share_prefix(self) -> None:
        """The same of sequences that go on from one prefix, which experts leave alone."""
        self._pack(prefix=self._batch(left=False)[0][1, : LENGTHS[1]].tolist())

    def _pack(self, *, prefix: Sequence[int]) -> None:
        ids_BT, _ = self._batch(left=False)
        gates_BSK = self._gates()
        of_length = dict(zip(LENGTHS, range(len(LENGTHS)), strict=True))
        shortest_first = sorted(of_length)
        shared = read_prefix(self.model, prefix) if prefix else None
        packing = packing_of(shortest_first, shared).to(ids_BT.device)
        order = [of_length[length] for length in shortest_first]
        ids_1N = torch.cat([ids_BT[i, : LENGTHS[i]] for i in order])[None]
        starts = packing.starts.tolist()
        needed_n = torch.arange(1, starts[-1], 2, device=ids_1N.device)
        found = []
        for gates in (gates_BSK[order], gates_BSK.flip(0)[order]):
            with (
                torch.no_grad(),
                self.pool.gated(gates, packing.token_rows, needed=needed_n),
                attending_packed(self.model),
            ):
                found.append(logits_at(self.model, ids_1N, None, needed_n, packing)[0])
        with torch.no_grad():
            alone_NV = torch.cat(
                [self._alone(ids_BT[i, : LENGTHS[i]], gates_BSK[i], prefix) for i in order]
            )
        where = "after a prefix that experts leave alone" if prefix else "packed in one row"
        self._compare(found[0], alone_NV[needed_n], other=found[1], where=where)

    def _check_layers(self) -> None:
        """Refuses layers that are passed by."""
        self.check_reads()
        if missed := [name for name in self.layers if name not in self.called]:
            raise self.refusal(
                f"it doesn't run {missed[0]} on text (as {len(missed)} of {len(self.layers)} such "
                "layers), so experts there would never be trained"
            )

    def check_reads(self) -> None:
        """Refuses layers whose weights the model computes with by itself."""
        if self.read:
            raise self.refusal(
                f"its code computes with the weight of {min(self.read)} itself instead of calling "
                "it, so experts beside it would be passed by"
            )

    def generate(self) -> None:
        """Generates with a cache after a prompt padded on the left, and compares likewise."""
        ids_BT, mask_BT = self._batch(left=True)
        gates_BSK = self._gates()
        said, logits_BNV = self._said(ids_BT, mask_BT, gates_BSK)
        self._check_layers()
        _, swapped_BNV = self._said(ids_BT, mask_BT, gates_BSK.flip(0))
        with torch.no_grad():
            for i, length in enumerate(LENGTHS):
                tokens_T = said[i, ids_BT.shape[1] - length : -1]
                alone_TV = self._alone(tokens_T, gates_BSK[i])[-NEW_TOKENS:]
                self._compare(
                    logits_BNV[i],
                    alone_TV,
                    other=swapped_BNV[i],
                    where="when it generates from a batch of prompts of different lengths",
                )

    def _said(self, ids_BT: Tensor, mask_BT: Tensor, gates_BSK: Tensor) -> tuple[Tensor, Tensor]:
        # Spelled out, because transformers takes what is left out from the model's own defaults.
        decoding = _decoding(
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            num_beams=1,
            temperature=1.0,
            top_p=1.0,
            top_k=50,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
        )
        say = cast(Callable[..., Any], self.model.generate)
        with self.pool.gated(gates_BSK):
            made = say(input_ids=ids_BT, attention_mask=mask_BT, generation_config=decoding)
        return made.sequences, torch.stack(made.logits, dim=1)

    def _alone(self, ids_T: Tensor, gates_SK: Tensor, prefix: Sequence[int] = ()) -> Tensor:
        """Returns a sequence's logits; the tokens of a prefix before it have no gates."""
        whole_1T = torch.cat([ids_T.new_tensor(prefix), ids_T])[None]
        gates_RSK = (
            torch.stack([gates_SK, torch.zeros_like(gates_SK)]) if prefix else gates_SK[None]
        )
        rows_1T = torch.zeros_like(whole_1T)
        rows_1T[:, : len(prefix)] = 1
        with self.pool.gated(gates_RSK, rows_1T if prefix else None):
            return self._logits(whole_1T, torch.ones_like(whole_1T))[0, len(prefix) :]

    def _logits(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        output = self.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        logits: Tensor = output.logits
        return logits

    def _batch(self, *, left: bool) -> tuple[Tensor, Tensor]:
        """Returns the tokens of both sequences, and where they aren't padding."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        ids_BT = torch.zeros((len(LENGTHS), max(LENGTHS)), dtype=torch.int64)
        mask_BT = torch.zeros_like(ids_BT)
        for i, length in enumerate(LENGTHS):
            places = slice(ids_BT.shape[1] - length, None) if left else slice(length)
            # Far from the first ids, which are often special.
            drawn = torch.arange(length) * 7 + i * 3
            ids_BT[i, places] = vocabulary // 2 + drawn % (vocabulary // 2)
            mask_BT[i, places] = 1
        return ids_BT.to(self.model.device), mask_BT.to(self.model.device)

    def _gates(self) -> Tensor:
        shape = (len(LENGTHS), self.pool.num_sites, self.pool.num_experts)
        generator = torch.Generator().manual_seed(0)
        return torch.randn(shape, generator=generator).to(self.model.device)

    def _compare(self, got: Tensor, expected: Tensor, *, other: Tensor, where: str) -> None:
        """Refuses outputs that are off by more than rounding, against what other gates change."""
        got, expected, other = got.float(), expected.float(), other.float()
        if not (got.isfinite().all() and expected.isfinite().all()):
            raise self.refusal("its outputs aren't finite numbers")
        effect, error = (other - expected).norm().item(), (got - expected).norm().item()
        allowed = 0.02 if self.model.dtype == torch.float32 else 0.5
        if effect <= 1e-6 * expected.norm().item():
            raise self.refusal("other gates don't change its output")
        if error > allowed * effect:
            raise self.refusal(
                f"{where} a sequence comes out otherwise than alone, by {error / effect:.0%} of "
                "what another sequence's experts would change"
            )

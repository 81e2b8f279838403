"""The expert pool: K LoRA experts on each targeted Linear, as one wide LoRA with gates inside.

    y = W x + s * B (repeat(gates, r) * (A x))     A: (K r, d_in)   B: (d_out, K r)   s = alpha / r

is exactly W x + s * sum_k gates_k B_k A_k x. Two thin matmuls and one multiply, no merging, and
every token may have gates of its own: mixed batches and packed sequences cost the same single pass.

Shapes: B examples, T tokens, S sites, K experts, R rows of gates, KR = K * rank.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polyprag.config import ExpertsConfig, RouterConfig
from polyprag.errors import ConfigError, RunError
from polyprag.method.linears import last_feed_forward, sites_of, targeted_linears
from polyprag.method.pass_gates import GateContext, WideGates


class ExpertLinear(nn.Linear):
    """A Linear without bias that computes in the activations' dtype whatever its own."""

    def reset_parameters(self) -> None:
        """Leaves the weight to `inject`: the default would draw from the global generator."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., d_out) for x (..., d_in), in x's dtype."""
        return F.linear(x, self.weight.to(x.dtype))


class GatedLoRALinear(nn.Module):
    """A frozen Linear with K gated LoRA experts beside it.

    The experts are Linear modules of their own, called as modules: DeepSpeed ZeRO-3 gathers a
    parameter when the module that owns it is called.
    """

    def __init__(
        self, base: nn.Linear, *, experts: ExpertsConfig, site: int, context: GateContext
    ) -> None:
        """Wraps `base`; A and B are made in fp32 on its device and left for `inject` to fill."""
        super().__init__()
        width = experts.num * experts.rank
        device = base.weight.device
        self.base = base
        self.A_cat = ExpertLinear(base.in_features, width, bias=False, device=device)
        self.B_cat = ExpertLinear(width, base.out_features, bias=False, device=device)
        self.site = site
        self.context = context

    def forward(self, x: Tensor) -> Tensor:
        """Returns (..., d_out) for x (..., d_in); the base output alone in a pass without gates."""
        y: Tensor = self.base(x)
        gates = self.context.current()
        if gates is None:
            return y
        if torch.is_inference_mode_enabled() and self.A_cat.weight.dtype == y.dtype:
            # Nobody trains: weights are whole, and y is nobody else's. Half as many calls.
            inner = gates.weigh(self.site, F.linear(x, self.A_cat.weight))
            flat = y.view(-1, y.shape[-1])
            flat.addmm_(inner.view(-1, inner.shape[-1]), self.B_cat.weight.T)
            return y
        added: Tensor = self.B_cat(gates.weigh(self.site, self.A_cat(x)))
        return y + added

    # What a model's code may ask of a Linear: its dtype, device and sizes. Code that computes with
    # the weight passes the experts by, which `support.check_experts` finds.

    @property
    def weight(self) -> nn.Parameter:
        """The frozen Linear's weight, without any expert."""
        return self.base.get_parameter("weight")

    @property
    def bias(self) -> nn.Parameter | None:
        """The frozen Linear's bias."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return self.base.out_features


class ExpertPool:
    """All experts of a model: its gated layers in their fixed order, and the gates they share."""

    def __init__(
        self, layers: dict[str, GatedLoRALinear], *, experts: ExpertsConfig, sites: int
    ) -> None:
        """Collects what `inject` made; use `inject`."""
        self._layers = layers
        self._context = next(iter(layers.values())).context
        self.num_sites = sites
        self.num_experts = experts.num
        self.rank = experts.rank
        self.alpha = experts.alpha
        self.module_names = tuple(layers)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Returns (name, parameter) pairs in a fixed order: `MODULE.A`, `MODULE.B`, ..."""
        pairs: list[tuple[str, nn.Parameter]] = []
        for name, layer in self._layers.items():
            for letter, linear in (("A", layer.A_cat), ("B", layer.B_cat)):
                pairs.append((f"{name}.{letter}", linear.get_parameter("weight")))
        return pairs

    def parameters(self) -> list[nn.Parameter]:
        """Returns the trainable parameters in the order of `named_parameters`."""
        return [parameter for _, parameter in self.named_parameters()]

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Returns each parameter's full shape, also where ZeRO-3 has partitioned it."""
        shapes = {}
        for name, layer in self._layers.items():
            for letter, linear in (("A", layer.A_cat), ("B", layer.B_cat)):
                shapes[f"{name}.{letter}"] = (linear.out_features, linear.in_features)
        return shapes

    def widened(self, gates: Tensor) -> WideGates:
        """Returns gates for several blocks of `gated`, which make them once.

        Args:
            gates: see `gated`, on the model's device.

        Raises:
            ValueError: the gates don't have the pool's sites and experts.
        """
        return self._context.widened(gates)

    @contextmanager
    def gated(
        self,
        gates: Tensor | WideGates,
        token_rows: Tensor | None = None,
        *,
        needed: Tensor | None = None,
    ) -> Iterator[None]:
        """Runs this thread's passes inside the block with these gates; others are closed-book.

        Args:
            gates: (B, S, K), one mixture a sequence (1 fits any batch), or (R, S, K) rows for
                `token_rows`. Gradients flow to them. Or what `widened` made of them.
            token_rows: (B, T) int64, the row of `gates` that each token uses (packed sequences).
            needed: (n,) int64, the columns of the batch that the last feed-forward is run for.

        Raises:
            ValueError: the gates don't have the pool's sites and experts.
        """
        wide = gates if isinstance(gates, WideGates) else self.widened(gates)
        with self._context.holding(wide, token_rows, needed):
            yield

    def mixed(
        self, gates: Tensor, *, state: Mapping[str, Tensor] | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Returns a mixture as a low-rank change of each module: A (KR, d_in), B (d_out, KR).

        The change of a module's weight is B A, float32 on the CPU.

        Args:
            gates: (S, K) float32.
            state: weights in the place of the pool's own; see `state_dict`.
        """
        weights = state or dict(self.named_parameters())
        wide = (gates.float() * self._context.scale).repeat_interleave(self.rank, dim=-1)
        return {
            name: (
                weights[f"{name}.A"].detach().float().cpu(),
                weights[f"{name}.B"].detach().float().cpu() * wide[layer.site],
            )
            for name, layer in self._layers.items()
        }

    def cast_to_base(self) -> None:
        """Takes the experts into the base's dtype for good, which passes do anew each time else.

        What passes compute stays the same; training and export need the experts as they were.
        """
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.data = parameter.data.to(self._context.dtype)

    def take_out(self, model: nn.Module) -> dict[str, nn.Linear]:
        """Puts the base's own Linears back into the model, and returns them by name."""
        for name, layer in self._layers.items():
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.base)
        return {name: layer.base for name, layer in self._layers.items()}

    def recomputing(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Gives recomputed layers the gates of their forward pass, whichever thread runs them.

        It is the `context_fn` that activation checkpointing needs.
        """
        return self._context.recomputing()

    def state_dict(self) -> dict[str, Tensor]:
        """Returns copies of all expert weights, float32 on the CPU (not for ZeRO-3 partitions)."""
        return {
            name: parameter.detach().to("cpu", torch.float32, copy=True)
            for name, parameter in self.named_parameters()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copies expert weights in, casting to each parameter's dtype (before DeepSpeed starts).

        Raises:
            RunError: tensors are missing, unknown, or of another shape; nothing is copied then.
        """
        shapes = self.shapes()
        remedy = "use the base model and the experts.* settings that the encoding was made with"
        if missing := [name for name in shapes if name not in state]:
            raise RunError(
                f"expert weights lack {len(missing)} tensors, such as {missing[0]!r}; {remedy}"
            )
        if unknown := [name for name in state if name not in shapes]:
            raise RunError(
                f"expert weights have {len(unknown)} tensors that this model has no place for, "
                f"such as {unknown[0]!r}; {remedy}"
            )
        for name, shape in shapes.items():
            if tuple(state[name].shape) != shape:
                raise RunError(
                    f"expert weights {name!r} have shape {tuple(state[name].shape)}, this model "
                    f"needs {shape}; {remedy}"
                )
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(state[name])


def inject(
    model: nn.Module, experts: ExpertsConfig, router: RouterConfig, *, seed: int
) -> ExpertPool:
    """Freezes a causal LM and puts the expert pool beside its targeted Linears, in place.

    Frozen means without dropout, too: the model is put into eval mode.

    Targets are the Linears in numbered layers whose last name is in `experts.targets`. A starts
    Kaiming-uniform per expert (as LoRA does), B zero, so that the model starts as its base.

    Args:
        model: any transformers causal LM; its parameters stop requiring gradients.
        experts: how many, of which rank, where.
        router: for the granularity, which decides the site of each Linear.
        seed: of the initial A; the global random state is neither read nor changed.

    Returns:
        The pool; its parameters are float32 and require gradients.

    Raises:
        ConfigError: no Linear has a name in `experts.targets`, or the model has experts already.
    """
    if any(isinstance(module, GatedLoRALinear) for module in model.modules()):
        raise ConfigError("the model carries an expert pool already; load a fresh base model")
    targeted = targeted_linears(model, experts.targets)
    model.requires_grad_(False).eval()
    first = next(iter(targeted.values())).get_parameter("weight").dtype
    sites, num_of_sites = sites_of(targeted, router.granularity)
    context = GateContext(
        sites=num_of_sites,
        experts=experts.num,
        rank=experts.rank,
        scale=experts.alpha / experts.rank,
        dtype=first if first.is_floating_point else torch.float32,  # quantised weights are bytes
    )
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for name, base in targeted.items():
        assert isinstance(base, nn.Linear)  # no others are targeted here
        gated = GatedLoRALinear(base, experts=experts, site=sites[name], context=context)
        initialise(gated.A_cat, gated.B_cat, generator)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, gated.eval())
        layers[name] = gated
    context.watch(model, last_feed_forward(model))
    return ExpertPool(layers, experts=experts, sites=num_of_sites)


def initialise(
    A_cat: nn.Linear, B_cat: nn.Linear, generator: torch.Generator | None = None
) -> None:
    """Fills a Linear's experts as LoRA starts: A Kaiming-uniform for each expert, B zero."""
    # The fan-in of one expert is d_in however many there are, so one draw serves them all.
    A = torch.empty(A_cat.out_features, A_cat.in_features)
    nn.init.kaiming_uniform_(A, a=math.sqrt(5), generator=generator)
    with torch.no_grad():
        A_cat.weight.copy_(A)
        B_cat.weight.zero_()

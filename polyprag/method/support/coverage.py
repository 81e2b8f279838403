"""How much of a model's decoder layers has experts beside it, and what can't have any."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from polyprag.method.experts import ExpertPool, GatedLoRALinear
from polyprag.method.linears import layer_of


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of a model's decoder layers experts can change.

    Attributes:
        with_experts: parameters of the Linears that have experts beside them.
        in_layers: parameters of the decoder layers.
        targets: names of those Linears, such as `up_proj`.
        fused: names of tensors that hold many Linears in one, such as `mlp.experts.down_proj`: the
            routed experts of a mixture-of-experts model. Nothing can be put beside them.
        fused_parameters: parameters of these.
    """

    with_experts: int
    in_layers: int
    targets: tuple[str, ...]
    fused: tuple[str, ...]
    fused_parameters: int

    def text(self) -> str:
        """Returns a sentence for people."""
        share = self.with_experts / max(self.in_layers, 1)
        return (
            f"experts sit beside {', '.join(self.targets)}: {share:.0%} of the parameters of the "
            "decoder layers"
        )

    def warning(self) -> str | None:
        """Returns what the user should know before training; None where nothing is out of reach."""
        if not self.fused:
            return None
        share = self.fused_parameters / max(self.in_layers, 1)
        return (
            f"{self.text()}; the model's own routed experts ({', '.join(self.fused)}: {share:.0%}) "
            "are fused tensors, which can't carry any: only its dense and shared parts are fitted"
        )


def coverage(model: nn.Module, pool: ExpertPool) -> Coverage:
    """Counts the parameters of a model's decoder layers.

    Args:
        model: with `pool` injected; no parameter may be partitioned yet. `meta` will do.
        pool: the experts.
    """
    carrying = [model.get_submodule(name) for name in pool.module_names]
    beside = {
        id(parameter)
        for layer in carrying
        if isinstance(layer, GatedLoRALinear)
        for linear in (layer.A_cat, layer.B_cat)
        for parameter in linear.parameters()
    }
    own = [
        (name, parameter)
        for name, parameter in model.named_parameters()
        if layer_of(name) is not None and id(parameter) not in beside
    ]
    fused = [
        (name, parameter)
        for name, parameter in own
        if parameter.dim() > 1 and _is_fused(model, name.rpartition(".")[0])
    ]
    return Coverage(
        with_experts=sum(
            layer.in_features * layer.out_features + (layer.bias is not None) * layer.out_features
            for layer in carrying
            if isinstance(layer, GatedLoRALinear)
        ),
        in_layers=sum(parameter.numel() for _, parameter in own),
        targets=tuple(sorted({name.rpartition(".")[2] for name in pool.module_names})),
        fused=_short([name for name, _ in fused]),
        fused_parameters=sum(parameter.numel() for _, parameter in fused),
    )


def _is_fused(model: nn.Module, owner: str) -> bool:
    """Whether a module's own parameters are those of many experts at once."""
    module = model.get_submodule(owner)
    named = f"{owner}.{type(module).__name__}".lower()
    return "expert" in named and not isinstance(module, nn.Linear)


def _short(names: Sequence[str]) -> tuple[str, ...]:
    """Returns parameters' names without their layer, each once."""
    return tuple(dict.fromkeys(".".join(_behind_layer(name.split("."))) for name in names))


def _behind_layer(parts: list[str]) -> list[str]:
    layer = next(i for i, part in enumerate(parts) if part.isdecimal())
    return parts[layer + 1 :]

"""The Linears of a model that carry experts, and which site of a routing row gates each."""

from collections.abc import Callable, Collection

from torch import nn

from polyprag.errors import ConfigError


def targeted_linears(
    model: nn.Module,
    targets: Collection[str],
    is_linear: Callable[[nn.Module], bool] = lambda module: isinstance(module, nn.Linear),
) -> dict[str, nn.Module]:
    """Returns the Linears that carry experts, by name, in the model's order.

    Args:
        model: any causal LM.
        targets: last names of modules, as `experts.targets` has them.
        is_linear: which modules count.

    Raises:
        ConfigError: none has such a name.
    """
    in_layers = {
        name: module
        for name, module in model.named_modules()
        if layer_of(name) is not None and is_linear(module)
    }
    found = sorted({name.rpartition(".")[2] for name in in_layers})
    if unknown := [target for target in targets if target not in found]:
        raise ConfigError(
            f"experts.targets={targets!r} can't be used: this model has no Linear named "
            f"{', '.join(unknown)} in its decoder layers; there are: {', '.join(found) or 'none'}"
        )
    return {n: m for n, m in in_layers.items() if n.rpartition(".")[2] in targets}


def sites_of(names: Collection[str], granularity: str) -> tuple[dict[str, int], int]:
    """Returns the site that gates each Linear, and how many sites a routing row has.

    Args:
        names: of `targeted_linears`, in its order.
        granularity: `model` (one site), `layer` (one a decoder layer) or `module` (one a Linear).
    """
    layers = {name: layer_of(name) or 0 for name in names}
    if granularity == "model":
        return dict.fromkeys(layers, 0), 1
    if granularity == "layer":
        return layers, 1 + max(layers.values())
    return {name: linear for linear, name in enumerate(layers)}, len(layers)


def layer_of(module_name: str) -> int | None:
    """Returns a module's decoder layer: the first number of its name, as in `layers.3.mlp`."""
    return next((int(part) for part in module_name.split(".") if part.isdecimal()), None)


def last_feed_forward(model: nn.Module) -> nn.Module | None:
    """Returns the feed-forward of the last decoder layer; None where it isn't one module.

    It is the only part of the layer, besides its attention, that has Linears.
    """
    numbered = [name for name, _ in model.named_modules() if name.rpartition(".")[2].isdecimal()]
    layers = [name for name in numbered if layer_of(name.rpartition(".")[0]) is None]
    if not layers:
        return None
    parts = [
        part
        for name, part in model.get_submodule(layers[-1]).named_children()
        if "att" not in name and any(isinstance(module, nn.Linear) for module in part.modules())
    ]
    return parts[0] if len(parts) == 1 and not isinstance(parts[0], nn.Linear) else None

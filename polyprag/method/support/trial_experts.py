"""Random experts in place of a pool's own, which do nothing yet before they are trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from polyprag.method.experts import GatedLoRALinear


@contextmanager
def random_experts(layers: Mapping[str, GatedLoRALinear]) -> Iterator[None]:
    """Puts random numbers into all B, such that experts weigh about as much as their Linear."""
    generator = torch.Generator().manual_seed(1)
    kept: list[tuple[nn.Parameter, Tensor]] = []
    try:
        for layer in layers.values():
            parameter = layer.B_cat.get_parameter("weight")
            kept.append((parameter, parameter.data))
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.data = (drawn * _size(layer)).to(parameter)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def _size(layer: GatedLoRALinear) -> float:
    """Returns B's standard deviation: with unit gates, experts and Linear give outputs alike."""
    weight, A = layer.base.weight, layer.A_cat.weight
    width = A.shape[0]
    inner = A[:64].float().norm(dim=1).mean().item()
    own = weight[:64].float().norm(dim=1).mean().item() if weight.is_floating_point() else 1.0
    return float(own / max(inner * layer.context.scale * width**0.5, 1e-12))

"""The sizes of a base model and of its experts, from its config alone: no weights are loaded."""

from dataclasses import dataclass

import torch
from torch import nn

from polyprag.config import Config
from polyprag.method.base_model import base_skeleton
from polyprag.method.experts import inject
from polyprag.method.support.check import check_skeleton
from polyprag.method.support.coverage import coverage


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What memory and files depend on.

    Attributes:
        base_parameters: numbers in the base model, tied ones once.
        base_dtype_bytes: of each of them on a worker.
        layers: decoder layers.
        hidden: width of the model.
        vocabulary: logits of a token.
        linear_features: inputs plus outputs of all Linears in the decoder layers.
        expert_linears: Linears that carry experts.
        expert_parameters: numbers in the whole expert pool.
        sites: S of a routing row.
        experts: K of a routing row.
        out_of_reach: what can't carry experts, as a warning; None if there is nothing.
    """

    base_parameters: int
    base_dtype_bytes: int
    layers: int
    hidden: int
    vocabulary: int
    linear_features: int
    expert_linears: int
    expert_parameters: int
    sites: int
    experts: int
    out_of_reach: str | None = None

    @property
    def row_bytes(self) -> int:
        """A routing row: float32 (S, K)."""
        return 4 * self.sites * self.experts

    @property
    def row_state_bytes(self) -> int:
        """A routing row with both of Adam's moments and its step count."""
        return 3 * self.row_bytes + 4


def model_shape(config: Config) -> ModelShape:
    """Reads the base model's config.json and builds the model on PyTorch's `meta` device.

    Args:
        config: of the run: base model, experts and router.

    Raises:
        ConfigError: the config can't be read, isn't a causal LM's that transformers ships, or has
            no Linears named in `experts.targets`.
    """
    model = base_skeleton(config.model)
    base_parameters = sum(parameter.numel() for parameter in model.parameters())
    linears = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    in_layers = [
        module
        for name, module in linears.items()
        if any(part.isdecimal() for part in name.split("."))
    ]
    text = model.config.get_text_config()
    with torch.device("meta"):
        pool = inject(model, config.experts, config.router, seed=0)
    check_skeleton(model, pool)
    return ModelShape(
        base_parameters=base_parameters,
        base_dtype_bytes=_dtype_bytes(config),
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        vocabulary=int(text.vocab_size),
        linear_features=sum(module.in_features + module.out_features for module in in_layers),
        expert_linears=len(pool.module_names),
        expert_parameters=sum(parameter.numel() for parameter in pool.parameters()),
        sites=pool.num_sites,
        experts=pool.num_experts,
        out_of_reach=coverage(model, pool).warning(),
    )


def _dtype_bytes(config: Config) -> int:
    """As `load_base` decides, but for the planned workers' devices rather than this machine's."""
    if config.model.dtype == "auto":
        return 2 if config.cluster.gpus_per_worker else 4
    return {"fp32": 4, "bf16": 2}[config.model.dtype]

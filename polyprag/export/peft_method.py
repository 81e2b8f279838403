"""The expert pool as a PEFT method: `PeftModel.from_pretrained(base, RUN/encoding)`.

An adapter is a pool: a gated pair of wide Linears beside each target, as in
`polyprag.method.experts`, for every kind of Linear that peft finds in a model, quantised ones
included. A pass has the gates of the block that it runs in; without any, the model is its base.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from aenum import extend_enum
from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import register_peft_method
from torch import Tensor, nn

from polyprag.encoding.adapter import METHOD
from polyprag.encoding.manifest import MANIFEST_NAME
from polyprag.encoding.mixtures import Mixed, Mixtures
from polyprag.errors import ConfigError, RunError
from polyprag.method.experts import ExpertLinear, initialise
from polyprag.method.linears import layer_of, sites_of, targeted_linears
from polyprag.method.pass_gates import GateContext


@dataclass
class PolypragConfig(PeftConfig):
    """A pool of experts as peft configures it; adapter_config.json of an encoding has one.

    Attributes:
        num_experts: K, on each Linear.
        rank: r of an expert.
        alpha: experts are scaled by alpha / r.
        target_modules: last names of the Linears that carry experts.
        granularity: of the routing rows: `model`, `layer` or `module`.
        encoding: RUN/encoding that the passages' rows are in; None: it was never in a run.
        experts_sha256: of the experts that these rows belong to.
    """

    num_experts: int = 8
    rank: int = 2
    alpha: float = 32.0
    target_modules: list[str] = field(default_factory=lambda: ["gate_proj", "up_proj", "down_proj"])
    granularity: str = "module"
    encoding: str | None = None
    experts_sha256: str | None = None

    def __post_init__(self) -> None:
        """Sets the type."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = PeftType(METHOD)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, subfolder: str | None = None, **kwargs: Any
    ) -> "PolypragConfig":
        """Reads adapter_config.json; that of an encoding leads to its passages' rows."""
        read = super().from_pretrained(pretrained_model_name_or_path, subfolder, **kwargs)
        config = _ours(read)
        directory = Path(pretrained_model_name_or_path, subfolder or "")
        if config.encoding is None and (directory / MANIFEST_NAME).is_file():
            config.encoding = str(directory.resolve())
        return config


class GatedLinear(nn.Module, BaseTunerLayer):
    """A Linear, and pools of experts beside it, by adapter."""

    adapter_layer_names = ("polyprag_A", "polyprag_B")
    other_param_names = ("polyprag_site", "polyprag_context")

    def __init__(self, base_layer: nn.Module) -> None:
        """Wraps a Linear of any kind that says its widths."""
        super().__init__()
        self.base_layer = base_layer
        wrapped: Any = self.get_base_layer()
        self.in_features: int = wrapped.in_features
        self.out_features: int = wrapped.out_features
        self.polyprag_A = nn.ModuleDict()
        self.polyprag_B = nn.ModuleDict()
        self.polyprag_site: dict[str, int] = {}
        self.polyprag_context: dict[str, GateContext] = {}

    def update_layer(
        self, adapter_name: str, config: PolypragConfig, *, site: int, context: GateContext
    ) -> None:
        """Puts an adapter's experts in."""
        width = config.num_experts * config.rank
        A = ExpertLinear(self.in_features, width, bias=False)
        B = ExpertLinear(width, self.out_features, bias=False)
        if A.weight.device.type != "meta":
            initialise(A, B)
        self.polyprag_A[adapter_name], self.polyprag_B[adapter_name] = A, B
        self.polyprag_site[adapter_name] = site
        self.polyprag_context[adapter_name] = context
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns (..., d_out) for x (..., d_in): the base's output and what gated experts add."""
        y: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return y
        for name in self.active_adapters:
            if name not in self.polyprag_A:
                continue
            gates = self.polyprag_context[name].current()
            if gates is not None:
                inner = gates.weigh(self.polyprag_site[name], self.polyprag_A[name](x))
                y = y + self.polyprag_B[name](inner).to(y.dtype)
        return y

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuses: a pool is no change of the weights before passages are mixed."""
        raise ConfigError(
            "a pool of experts can't be merged, only a mixture of its passages: "
            "`polyprag export RUN --passages KEY --merge`"
        )

    def unmerge(self) -> None:
        """Does nothing: nothing was merged."""


class PolypragModel(BaseTuner):
    """A model with pools of experts in it; `PeftModel` passes what it doesn't know on to this."""

    prefix = "polyprag_"
    tuner_layer_cls = GatedLinear
    target_module_mapping = {}  # noqa: RUF012 # peft's attribute

    def _prepare_adapter_config(
        self, peft_config: PeftConfig, model_config: dict[str, Any]
    ) -> PeftConfig:
        """Says which site gates which Linear, before they are replaced."""
        peft_config = _ours(peft_config)
        linears = targeted_linears(self.model, peft_config.target_modules, is_linear=_has_widths)
        self._sites, num_sites = sites_of(linears, peft_config.granularity)
        weight = getattr(next(iter(linears.values())), "weight", None)  # GPTQ's have none
        dtype = torch.float32  # quantised weights are bytes
        if isinstance(weight, Tensor) and weight.is_floating_point():
            dtype = weight.dtype
        self._context = GateContext(
            sites=num_sites,
            experts=peft_config.num_experts,
            rank=peft_config.rank,
            scale=peft_config.alpha / peft_config.rank,
            dtype=dtype,
        )
        return peft_config

    @staticmethod
    def _check_target_module_exists(peft_config: PeftConfig, key: str) -> bool:
        targets = _ours(peft_config).target_modules
        return layer_of(key) is not None and key.rpartition(".")[2] in targets

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if not _has_widths(target):
            raise TypeError(f"{current_key}: a {type(target).__name__}, not a Linear")
        layer = target if isinstance(target, GatedLinear) else GatedLinear(target)
        layer.update_layer(
            adapter_name, _ours(peft_config), site=self._sites[current_key], context=self._context
        )
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)  # not trained before it is chosen
            self._replace_module(parent, target_name, layer, target)

    def inject_adapter(
        self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any
    ) -> None:
        """Puts an adapter's experts into the model, and has its passes noted."""
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        if "_contexts" not in self.__dict__:
            self._contexts: dict[str, GateContext] = {}
            self._mixtures: dict[str, Mixtures] = {}
        self._contexts[adapter_name] = self._context
        self._mixtures.pop(adapter_name, None)
        model.register_forward_pre_hook(self._context.begin_pass, with_kwargs=True)
        model.register_forward_hook(self._context.end_pass, always_call=True)

    @contextmanager
    def gated(
        self, gates: Tensor, token_rows: Tensor | None = None, *, adapter: str | None = None
    ) -> Iterator[None]:
        """Runs the model inside the `with` block with these gates, in this thread alone.

        Args:
            gates: (B, S, K), one mixture a sequence (1 fits any batch), or (R, S, K) rows for
                `token_rows`. Gradients flow to them.
            token_rows: (B, T) int64, the row of `gates` that each token uses.
            adapter: whose experts are weighed; None: those of the active one.

        Raises:
            ValueError: the gates don't have the pool's sites and experts.
        """
        context = self._contexts[adapter or self.active_adapters[0]]
        with context.holding(context.widened(gates.to(self.device)), token_rows):
            yield

    @contextmanager
    def passages(self, *mixed: Mixed, adapter: str | None = None) -> Iterator[None]:
        """Runs the model inside the `with` block with the gates of passages.

            with model.passages("ada-lovelace"):
                model.generate(**inputs)

        Args:
            mixed: the passages of each sequence of the batch: a key, several keys, or keys and
                their weights. One fits any batch.
            adapter: that they are passages of; None: the active one.

        Raises:
            CorpusError: the run has no passage with a key.
            RunError: the adapter has left its run, or the run was trained again since.
        """
        name = adapter or self.active_adapters[0]
        if name not in self._mixtures:
            self._mixtures[name] = _open_mixtures(name, _ours(self.peft_config[name]))
        gates = torch.stack([self._mixtures[name].of(each).gates for each in mixed])
        with self.gated(gates, adapter=name):
            yield


def _ours(config: PeftConfig) -> PolypragConfig:
    assert isinstance(config, PolypragConfig)  # peft gives each method its own
    return config


def _has_widths(module: nn.Module) -> bool:
    """Whether this is a Linear of some kind, also one that only peft's libraries know."""
    return all(
        isinstance(getattr(module, name, None), int) for name in ("in_features", "out_features")
    )


def _open_mixtures(name: str, config: PolypragConfig) -> Mixtures:
    if config.encoding is None:
        raise RunError(
            f"adapter {name!r} doesn't say in which run its passages are: load it from "
            "RUN/encoding, or set its config's `encoding`"
        )
    mixtures = Mixtures(str(Path(config.encoding).parent))
    if mixtures.encoding.manifest.experts.sha256 != config.experts_sha256:
        raise RunError(
            f"{config.encoding} has other experts than adapter {name!r}: load the adapter again"
        )
    return mixtures


def register_method() -> None:
    """Makes peft know the method; again, nothing happens."""
    if METHOD not in PeftType.__members__:
        extend_enum(PeftType, METHOD, METHOD)
        register_peft_method(
            name=METHOD.lower(), config_cls=PolypragConfig, model_cls=PolypragModel
        )

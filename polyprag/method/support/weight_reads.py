"""Which Linears' weights a model's code computes with itself, instead of calling the Linear."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from polyprag.method.experts import GatedLoRALinear


class WeightReads(TorchFunctionMode):
    """Notes the layers whose weights enter a computation outside of their Linear."""

    def __init__(self, layers: Mapping[str, GatedLoRALinear], read: set[str]) -> None:
        super().__init__()
        self._names = {id(layer.base.weight): name for name, layer in layers.items()}
        self._read = read
        self._in_linear = 0
        self._handles = [
            handle
            for layer in layers.values()
            for handle in (
                layer.base.register_forward_pre_hook(self._enter),
                layer.base.register_forward_hook(self._leave, always_call=True),
            )
        ]

    def _enter(self, *_: object) -> None:
        self._in_linear += 1

    def _leave(self, *_: object) -> None:
        self._in_linear -= 1

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._in_linear and isinstance(result, Tensor):  # not .dtype, .device, .shape
            for value in (*args, *(kwargs or {}).values()):
                for one in value if isinstance(value, list | tuple) else (value,):
                    if (name := self._names.get(id(one))) is not None:
                        self._read.add(name)
        return result

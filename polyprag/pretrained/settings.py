"""What a model's config.json may say: sizes that some model has, and code that transformers ships.

transformers makes what a config asks for. A thousand million layers take all memory before anything
is compared with the weights, and an attention of the form OWNER/NAME is code from the hub.
"""

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

from polyprag.pretrained.unusable import UnusableModelError

# Far above what any model has.
_MOST_LAYERS, _MOST_EXPERTS, _MOST_OF_BOTH = 2_000, 20_000, 500_000
_MOST_SIZE = 2**40
_LAYERS = re.compile(r"(n|num|encoder|decoder|num_hidden|num_decoder|num_encoder)_layers?")
_EXPERTS = re.compile(r"(n|num)_(\w+_)?experts")
_AT_LEAST_ONE = ("num_hidden_layers", "n_layer", "hidden_size", "n_embd", "d_model", "vocab_size")
_IMPLEMENTATION = re.compile(r"_*(attn|experts?)_implementation(_\w+)?")
_SHIPPED = ("eager", "sdpa", "flex_attention", "paged|eager", "batched_mm", "grouped_mm")
_PACKAGES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn",
}


def check_settings(settings: dict[str, Any], *, where: str) -> None:
    """Refuses settings that take endless time or memory, or run code that transformers hasn't.

    Args:
        settings: what config.json holds.
        where: names the file in errors.

    Raises:
        UnusableModelError: names the key and the value.
    """
    layers, experts = 1, 1
    for key, value in _walk(settings):
        if _IMPLEMENTATION.fullmatch(key):
            _check_implementation(key, value, where=where)
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if key in _AT_LEAST_ONE:
            _require(value >= 1, key, value, "at least 1", where=where)
        if _LAYERS.fullmatch(key):
            _require(value <= _MOST_LAYERS, key, value, f"at most {_MOST_LAYERS:,}", where=where)
            layers = max(layers, value)
        elif _EXPERTS.fullmatch(key):
            _require(value <= _MOST_EXPERTS, key, value, f"at most {_MOST_EXPERTS:,}", where=where)
            experts = max(experts, value)
        elif not key.endswith("length") and not key.startswith("max_"):
            _require(abs(value) <= _MOST_SIZE, key, value, f"at most {_MOST_SIZE:,}", where=where)
    if layers * experts > _MOST_OF_BOTH:
        raise UnusableModelError(
            f"{where}: {layers:,} layers of {experts:,} experts are more than any model has"
        )


def _walk(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields all keys with their values, those of inner mappings too."""
    waiting: list[Any] = [values]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            for key, value in current.items():
                yield key, value
                waiting.append(value)
        elif isinstance(current, list):
            waiting += current


def _check_implementation(key: str, value: Any, *, where: str) -> None:
    names = list(value.values()) if isinstance(value, dict) else [value]
    for name in names:
        if name is None or name in _SHIPPED:
            continue
        package = _PACKAGES.get(name) if isinstance(name, str) else None
        if package is None:
            raise UnusableModelError(
                f"{where}: {key}={name!r} isn't one that transformers ships, and polyprag never "
                "runs a model's own code: delete that key"
            )
        # Without it transformers may take another one from the hub in its place.
        if importlib.util.find_spec(package) is None:
            raise UnusableModelError(
                f"{where}: {key}={name!r} needs the package {package}, which isn't installed: "
                "install it, or delete that key"
            )


def _require(ok: bool, key: str, value: object, allowed: str, *, where: str) -> None:
    if not ok:
        raise UnusableModelError(f"{where}: {key}={value!r} can't be: it must be {allowed}")

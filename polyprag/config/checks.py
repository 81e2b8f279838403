"""What a setting must be: the checks that the dataclasses share, and the error that they raise."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from polyprag.errors import ConfigError

Bounds = Mapping[str, tuple[float, float]]  # the least and the most of each number

_ANY = (-math.inf, math.inf)


def require(ok: bool, key: str, value: object, allowed: str) -> None:
    """Raises ConfigError, which names key, value and what is allowed, unless `ok`."""
    if not ok:
        raise ConfigError(f"{key}={value!r} can't be used: it must be {allowed}")


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ConfigError unless the value is among the allowed ones."""
    require(value in allowed, key, value, "one of " + ", ".join(allowed))


def require_numbers(config: Any, section: str, bounds: Bounds) -> None:
    """Raises ConfigError unless each number of a section is one, and within its bounds.

    Args:
        config: the section's dataclass; a number that may be None passes as such.
        section: its name.
        bounds: of every number that the dataclass has; a test looks for one without.
    """
    for field in dataclasses.fields(config):
        kinds = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else ()
        kind = next((kind for kind in (*kinds, field.type) if kind in (int, float)), None)
        value = getattr(config, field.name)
        if kind is None or (value is None and types.NoneType in kinds):
            continue
        key, (least, most) = f"{section}.{field.name}", bounds.get(field.name, _ANY)
        number = "a whole number" if kind is int else "a number"
        is_one = isinstance(value, int if kind is int else int | float)
        require(is_one and not isinstance(value, bool), key, value, number)
        require(value == value and abs(value) < math.inf, key, value, "finite")
        require(value >= least, key, value, _at_least(least))
        require(value <= most, key, value, f"at most {_shown(most)}")


def _at_least(least: float) -> str:
    return "0 or more" if least == 0 else f"at least {_shown(least)}"


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"

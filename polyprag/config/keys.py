"""The dotted keys of a config: their values, their types, and the known one that was meant."""

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from polyprag.config.run import Config
from polyprag.errors import ConfigError


def flatten(config: Config) -> dict[str, Any]:
    """Returns every value by its dotted key, in the order of the dataclasses."""
    return {
        f"{section.name}.{leaf.name}": getattr(getattr(config, section.name), leaf.name)
        for section in dataclasses.fields(config)
        for leaf in dataclasses.fields(getattr(config, section.name))
    }


@functools.cache  # asked for once a setting while merging
def key_types() -> Mapping[str, Any]:
    """Returns the type of every dotted key."""
    return {
        f"{section}.{leaf}": expected
        for section, cls in typing.get_type_hints(Config).items()
        for leaf, expected in typing.get_type_hints(cls).items()
    }


def nearest_key(key: str) -> str | None:
    """Returns the known dotted key most like this one, if any is alike.

    A key without its section (`lanes`) is matched with the last parts of the known ones.
    """
    if key in section_names():
        return None
    known = list(key_types())
    if "." not in key:
        by_last = {k.rpartition(".")[2]: k for k in reversed(known)}
        last = difflib.get_close_matches(key, by_last, n=1)
        return by_last[last[0]] if last else None
    near = difflib.get_close_matches(key, known, n=1)
    return near[0] if near else nearest_key(key.rpartition(".")[2])


def known_type(key: str, *, where: str) -> Any:
    """Returns the type that a dotted key wants.

    Raises:
        ConfigError: there is no such key; the nearest one is named.
    """
    types_by_key = key_types()
    if key in types_by_key:
        return types_by_key[key]
    inside = [known for known in types_by_key if known.startswith(f"{key}.")]
    if inside:
        raise ConfigError(f"{where}: {key} is a section; its keys are {', '.join(inside)}")
    near = nearest_key(key)
    hint = f"did you mean {near}?" if near else "`polyprag config show` lists the keys"
    raise ConfigError(f"{where}: unknown key {key}: {hint}")


def is_text(expected: Any) -> bool:
    """Returns whether a key of this type wants text."""
    return expected is str or (
        isinstance(expected, types.UnionType) and str in typing.get_args(expected)
    )


def section_names() -> list[str]:
    """Returns the sections in the order of the dataclasses."""
    return [field.name for field in dataclasses.fields(Config)]

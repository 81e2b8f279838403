"""Configs as files: defaults < YAML files < `key=value`, every key checked, saved with the run.

    config = load_config(["quickstart"], ["train.epochs=8"])
    save_config(config, "runs/wiki")

A config is named by its path or, for one that ships with polyprag, by its name in configs/.
"""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import polyprag
from polyprag.config import Config
from polyprag.config.paths import with_absolute_paths
from polyprag.config.safe_yaml import (
    Setting,
    parse_mapping,
    parse_settings,
    parse_value,
    refuse_interpolation,
)
from polyprag.errors import ConfigError
from sharding.storage.files import atomic_write, exists, join, open_url

CONFIG_FILE = "config.yaml"


def load_config(
    configs: str | Path | Sequence[str | Path] | None = None,
    overrides: Sequence[str] = (),
    run_dir: str | Path | None = None,
) -> Config:
    """Merges defaults, files and overrides, in that order; later ones win.

    Args:
        configs: paths, URLs or names of shipped configs, each a whole config or a part of one.
        overrides: `section.key=value`, the value in YAML (text needs no quotes).
        run_dir: a run directory whose saved config stands in when `configs` is empty.

    Raises:
        ConfigError: a file can't be read, a key isn't known (the nearest known one is named), or
            a value can't be used.
    """
    if configs is None:
        configs = []
    elif isinstance(configs, str | Path):
        configs = [configs]
    settings: list[Setting] = []
    if run_dir is not None and not configs:
        saved = join(str(run_dir), CONFIG_FILE)
        if exists(saved):
            settings += parse_settings(_read(saved), where=saved)
    for config in configs:
        settings += parse_settings(_read(locate(config)), where=str(config))
    settings += [parse_override(override) for override in overrides]
    return _merge(settings)


def parse_override(text: str) -> Setting:
    """Reads `section.key=value` as given on a command line.

    Raises:
        ConfigError: there is no `=`, the key isn't known, or the value isn't YAML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} isn't an override: write section.key=value")
    where = "command line"
    expected = _known(key, where=where)
    refuse_interpolation(value, where=f"{where}: {key}")
    if _is_text(expected):
        # Read as YAML, a revision such as 12e4567 would turn into a number.
        optional = expected is not str
        return Setting(key, None if optional and value == "null" else value, where)
    return Setting(key, parse_value(value, where=f"{where}: {key}"), where)


def locate(config: str | Path) -> str:
    """Returns where a config is: the path itself if it exists, else the shipped config so named.

    Raises:
        ConfigError: neither is there; the shipped names are listed.
    """
    name = str(config)
    if exists(name):
        return name
    shipped = shipped_configs()
    if name in shipped:
        return str(shipped[name])
    near = difflib.get_close_matches(name, shipped, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"no config file {name}, and none ships under this name: {hint}"
        f"shipped are {', '.join(shipped)}"
    )


def shipped_configs() -> dict[str, Path]:
    """Returns the configs that come with polyprag by name, such as `deepspeed/zero3`.

    They lie beside the packages in a checkout, and inside `polyprag` in an installed wheel.
    """
    package = Path(polyprag.__file__).parent
    root = next((p for p in (package / "configs", package.parent / "configs") if p.is_dir()), None)
    if root is None:
        return {}
    return {
        path.relative_to(root).with_suffix("").as_posix(): path
        for path in sorted(root.rglob("*.yaml"))
    }


def read_yaml(config: str | Path) -> dict[str, Any]:
    """Returns a YAML file's mapping, read with the same care (used for DeepSpeed's own keys).

    Args:
        config: a path, URL or name of a shipped config.

    Raises:
        ConfigError: it can't be found or read, or holds something that is refused.
    """
    return parse_mapping(_read(locate(config)), where=str(config))


def to_yaml(config: Config) -> str:
    """Returns the whole config as YAML; `load_config` of it gives an equal config."""
    return str(OmegaConf.to_yaml(OmegaConf.structured(config)))


def save_config(config: Config, directory: str | Path) -> None:
    """Writes the whole config as config.yaml in a run (or encoding) directory, atomically.

    What it names on this machine is found again from every directory.
    """
    with atomic_write(join(str(directory), CONFIG_FILE)) as file:
        file.write(to_yaml(with_absolute_paths(config)).encode())


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
    if key in _section_names():
        return None
    known = list(key_types())
    if "." not in key:
        by_last = {k.rpartition(".")[2]: k for k in reversed(known)}
        last = difflib.get_close_matches(key, by_last, n=1)
        return by_last[last[0]] if last else None
    near = difflib.get_close_matches(key, known, n=1)
    return near[0] if near else nearest_key(key.rpartition(".")[2])


def _read(url: str) -> str:
    try:
        with open_url(url, "rb") as file:
            return str(file.read().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{url}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{url}: can't be read: {reason}") from None


def _known(key: str, *, where: str) -> Any:
    """Returns the type that a dotted key wants."""
    types_by_key = key_types()
    if key in types_by_key:
        return types_by_key[key]
    inside = [known for known in types_by_key if known.startswith(f"{key}.")]
    if inside:
        raise ConfigError(f"{where}: {key} is a section; its keys are {', '.join(inside)}")
    near = nearest_key(key)
    hint = f"did you mean {near}?" if near else "`polyprag config show` lists the keys"
    raise ConfigError(f"{where}: unknown key {key}: {hint}")


def _is_text(expected: Any) -> bool:
    return expected is str or (
        isinstance(expected, types.UnionType) and str in typing.get_args(expected)
    )


def _merge(settings: list[Setting]) -> Config:
    merged = OmegaConf.structured(Config)
    for node in (merged, *(merged[section] for section in _section_names())):
        OmegaConf.set_readonly(node, None)  # which OmegaConf makes of a frozen dataclass
    for setting in settings:
        key, value, where = setting.key, setting.value, setting.where
        if value is None and key in _section_names():
            continue  # `train:` with everything under it commented out
        expected = _known(key, where=where)
        if _is_text(expected) and value is not None and not isinstance(value, str):
            raise ConfigError(f"{where}: {key} must be text: put {value!r} in quotes")
        if expected in (int, float) and isinstance(value, bool):
            raise ConfigError(f"{where}: {key}={value!r} can't be used: it must be a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: {key}={value!r} can't be used: it must be finite")
        try:
            OmegaConf.update(merged, key, value)
        except OmegaConfBaseException:
            name = getattr(expected, "__name__", str(expected))
            wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}
            allowed = wanted.get(name, "a list such as [a, b]" if "list" in name else name)
            raise ConfigError(
                f"{where}: {key}={value!r} can't be used: it must be {allowed}"
            ) from None
    return typing.cast(Config, OmegaConf.to_object(merged))


def _section_names() -> list[str]:
    return [field.name for field in dataclasses.fields(Config)]

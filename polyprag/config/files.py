"""Configs as files: defaults < the run's < YAML files < `key=value`, every key checked.

    config = load_config(["quickstart"], ["train.epochs=8"])
    save_config(config, "runs/wiki")

A config is named by its path or, for one that ships with polyprag, by its name in configs/.
"""

import dataclasses
import difflib
import math
import os
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from polyprag.config import Config, trust
from polyprag.config.keys import flatten, is_text, known_type, section_names
from polyprag.config.paths import with_absolute_paths
from polyprag.config.safe_yaml import (
    MAX_BYTES,
    Setting,
    parse_mapping,
    parse_settings,
    parse_value,
    refuse_interpolation,
)
from polyprag.config.shipped import shipped_configs
from polyprag.errors import ConfigError
from sharding.storage.files import atomic_write, exists, join, read_bytes
from sharding.storage.urls import absolute, is_local

CONFIG_FILE = "config.yaml"
_BUDGET, _OF_BUDGET = "augment.budget", ("augment.num_qas", "augment.num_rewrites")
# What holds for a config that was saved, whole, when there was no such key yet.
_BEFORE_THE_KEY = {"generation.instruction": "", "generation.thinking": "template"}


def load_config(
    configs: str | Path | Sequence[str | Path] | None = None,
    overrides: Sequence[str] = (),
    run_dir: str | Path | None = None,
    *,
    uses: Collection[str] = trust.EVERYTHING,
    trust_run: bool = False,
    keeps_unused: bool = False,
) -> Config:
    """Merges defaults, a run's own config, files and overrides, in that order; later ones win.

    Args:
        configs: paths, URLs or names of shipped configs, each a whole config or a part of one.
        overrides: `section.key=value`, the value in YAML (text needs no quotes).
        run_dir: a run directory. What its saved config (or any file in it) names outside of the
            run counts only where the user has given it, too: see `polyprag.config.trust`.
        uses: what the caller may use of that.
        trust_run: whether the user trusts all that the run names.
        keeps_unused: whether the rest stays as the run says, to be saved there again; it is at its
            defaults otherwise.

    Raises:
        ConfigError: a file can't be read, a key isn't known (the nearest known one is named), a
            value can't be used, or the user hasn't given it.
    """
    if configs is None:
        configs = []
    elif isinstance(configs, str | Path):
        configs = [configs]
    of_run: list[Setting] = []
    if run_dir is not None and exists(saved := join(str(run_dir), CONFIG_FILE)):
        of_run = _saved_settings(saved)
    of_user: list[Setting] = []
    layers = [list(of_run)]
    for config in configs:
        read = parse_settings(_read(locate(config)), where=str(config))
        layers.append(read)
        if run_dir is None or not _is_inside(config, run_dir):
            of_user += read
        else:
            of_run += read
    given = [parse_override(override) for override in overrides]
    merged = _merge(_last_given([*layers, given]))
    if run_dir is None:
        return merged
    of_user += given
    return _checked(
        merged,
        of_run=of_run,
        of_user=of_user,
        is_remote=not is_local(run_dir),
        uses=uses,
        trust_run=trust_run,
        keeps_unused=keeps_unused,
    )


def changed_settings(run_dir: str | Path, config: Config) -> list[str]:
    """Returns what a config says otherwise than the one saved in a run, `key: old -> new` each."""
    saved = join(str(run_dir), CONFIG_FILE)
    if not exists(saved):
        return []
    before = flatten(load_saved_config(saved))
    after = flatten(with_absolute_paths(config))  # as it would be saved
    return [f"{key}: {before[key]} -> {after[key]}" for key in after if before[key] != after[key]]


def load_saved_config(url: str) -> Config:
    """Reads what `save_config` wrote, now or in an earlier version.

    Raises:
        ConfigError: see `load_config`.
    """
    return _merge(_saved_settings(url))


def parse_override(text: str) -> Setting:
    """Reads `section.key=value` as given on a command line.

    Raises:
        ConfigError: there is no `=`, the key isn't known, or the value isn't YAML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} isn't an override: write section.key=value")
    where = "command line"
    expected = known_type(key, where=where)
    refuse_interpolation(value, where=f"{where}: {key}")
    if is_text(expected):
        # Read as YAML, a revision such as 12e4567 would turn into a number.
        optional = expected is not str
        return Setting(key, None if optional and value == "null" else value, where)
    return Setting(key, parse_value(value, where=f"{where}: {key}"), where)


def locate(config: str | Path) -> str:
    """Returns where a config is: the shipped one of that name, else the path itself if it exists.

    So what lies in the working directory never takes a shipped config's place; a file of the same
    name is `./quickstart`.

    Raises:
        ConfigError: neither is there; the shipped names are listed.
    """
    name = str(config)
    shipped = shipped_configs()
    if name in shipped:
        return str(shipped[name])
    if exists(name):
        return name
    near = difflib.get_close_matches(name, shipped, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"no config file {name}, and none ships under this name: {hint}"
        f"shipped are {', '.join(shipped)}"
    )


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


def _checked(
    config: Config,
    *,
    of_run: Sequence[Setting],
    of_user: Sequence[Setting],
    is_remote: bool,
    uses: Collection[str],
    trust_run: bool,
    keeps_unused: bool,
) -> Config:
    """Returns a config of which nothing reaches out of the run that the user hasn't given."""
    default = flatten(Config())
    values = flatten(config)
    given = {setting.key for setting in of_user}
    given |= {key for key, value in values.items() if value == default[key]}
    places = {setting.key: setting.where for setting in of_run}
    found = _with_deepspeed_file(with_absolute_paths(config))
    # Also what this command has no use for, or nobody yet: a later one may.
    by_user = {setting.key for setting in of_user}
    trust.remember(
        each
        for each in trust.all_outside(found)
        if by_user.intersection(each.values) and given.issuperset(each.values)
    )
    for each in trust.outside(found, is_remote=is_remote):
        if each.use in uses:
            trust.check(each, given=given, places=places, trust_run=trust_run)
        elif not keeps_unused and not given.issuperset(each.values) and not each.is_trusted:
            config = trust.without(config, each.values)
    return config


def _with_deepspeed_file(config: Config) -> Config:
    """Names `deepspeed.config` as a run keeps it: absolute, and None where it ships."""
    name = config.deepspeed.config
    if name is None:
        return config
    shipped = shipped_configs()
    file = None if name in shipped else absolute(name)
    if file is not None and Path(file) in shipped.values():
        file = None
    return dataclasses.replace(config, deepspeed=dataclasses.replace(config.deepspeed, config=file))


def _is_inside(config: str | Path, run_dir: str | Path) -> bool:
    """Returns whether a config lies in a run, and so is no more the user's than the run is."""
    file, directory = absolute(locate(config)), absolute(run_dir)
    if is_local(file) and is_local(directory):
        file, directory = os.path.realpath(file), os.path.realpath(directory)
    return file.startswith(directory.rstrip("/") + "/")


def _read(url: str) -> str:
    try:
        data = read_bytes(url, length=MAX_BYTES + 1)  # which shows that there is too much
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{url}: a config has at most {MAX_BYTES // 1024} KiB")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{url}: not UTF-8 text (byte {error.start})") from None


def _saved_settings(url: str) -> list[Setting]:
    settings = parse_settings(_read(url), where=url)
    known = {setting.key for setting in settings}
    return settings + [
        Setting(key, value, url) for key, value in _BEFORE_THE_KEY.items() if key not in known
    ]


def _last_given(layers: Sequence[Sequence[Setting]]) -> list[Setting]:
    """Returns all settings in order, but for numbers that a later budget is given in place of."""
    kept: list[Setting] = []
    for layer in layers:
        keys = {setting.key for setting in layer if setting.value is not None}
        outdone = set(_OF_BUDGET) - keys if _BUDGET in keys else set()
        kept = [setting for setting in kept if setting.key not in outdone] + list(layer)
    return kept


def _merge(settings: list[Setting]) -> Config:
    merged = OmegaConf.structured(Config)
    for node in (merged, *(merged[section] for section in section_names())):
        OmegaConf.set_readonly(node, None)  # which OmegaConf makes of a frozen dataclass
    for setting in settings:
        key, value, where = setting.key, setting.value, setting.where
        if value is None and key in section_names():
            continue  # `train:` with everything under it commented out
        expected = known_type(key, where=where)
        if is_text(expected) and value is not None and not isinstance(value, str):
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

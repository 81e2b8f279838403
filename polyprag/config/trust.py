"""Settings by which a run reaches out of itself: used only where the user has given them.

A run directory may come from a stranger. Endpoints, the names of keys, addresses, tracking servers,
cache directories and DeepSpeed files in it are proposals: a command uses one that the user names on
the command line or in a config of his own, or that he has named before. What he names is remembered
in a file of his own, so that his own runs go on as they are.
"""

import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from polyprag.config.data import AugmentConfig
from polyprag.config.retrieval import IndexConfig
from polyprag.config.run import Config
from polyprag.errors import ConfigError

STATE_DIR = "POLYPRAG_STATE_DIR"
# Keys that a run may name once it is trusted; any other one the user must name himself.
_KEY_NAME = re.compile(r"OPENAI_API_KEY|POLYPRAG_[A-Z0-9_]+")
_DEFAULT_KEY = "OPENAI_API_KEY"
_FILE = "trusted.jsonl"
_MAX_BYTES = 1 << 22
_given: set[tuple[str, str]] = set()  # in this process, whether or not the file can be written

# What a command may use of a run: a setting, or the section of an endpoint and its key.
ADDRESS, CACHE_DIR, DEEPSPEED = "cluster.address", "data.cache_dir", "deepspeed.config"
MLFLOW, WANDB = "log.mlflow_uri", "log.wandb_entity"
AUGMENT_ENDPOINT, INDEX_ENDPOINT = "augment", "index"
EVERYTHING = (ADDRESS, CACHE_DIR, DEEPSPEED, MLFLOW, WANDB, AUGMENT_ENDPOINT, INDEX_ENDPOINT)
KEYS = (
    *(ADDRESS, CACHE_DIR, DEEPSPEED, MLFLOW, WANDB),
    *(
        f"{section}.{leaf}"
        for section in (AUGMENT_ENDPOINT, INDEX_ENDPOINT)
        for leaf in ("base_url", "api_key_env")
    ),
)
_ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class Outside:
    """Something outside of a run that its settings name.

    Attributes:
        use: one of `EVERYTHING`.
        values: the settings by their keys, those at their defaults included.
    """

    use: str
    values: Mapping[str, str | None]

    @property
    def entry(self) -> tuple[str, str]:
        """What is remembered: an endpoint goes with its key, whatever asks it."""
        values = list(self.values.values())
        if self.use in (AUGMENT_ENDPOINT, INDEX_ENDPOINT):
            return _ENDPOINT, f"{values[0] or 'OpenAI'} ${values[1]}"
        return self.use, str(values[0])

    @property
    def key_name(self) -> str | None:
        """The environment variable with an endpoint's key."""
        return (
            list(self.values.values())[1]
            if self.use in (AUGMENT_ENDPOINT, INDEX_ENDPOINT)
            else None
        )

    @property
    def is_trusted(self) -> bool:
        """Whether the user has given it before, or in this process."""
        return self.entry in _given or self.entry in _remembered()


def endpoint(section: str, *, base_url: str | None, api_key_env: str) -> Outside | None:
    """Returns an endpoint with its key; None for OpenAI's own with OpenAI's key."""
    if base_url is None and api_key_env == _DEFAULT_KEY:
        return None
    return Outside(
        section, {f"{section}.base_url": base_url, f"{section}.api_key_env": api_key_env}
    )


def endpoint_of(config: Config, section: str) -> Outside | None:
    """Returns the endpoint that `augment` or `index` names; see `endpoint`."""
    of: AugmentConfig | IndexConfig = getattr(config, section)
    return endpoint(section, base_url=of.base_url, api_key_env=of.api_key_env)


def all_outside(config: Config) -> list[Outside]:
    """Returns what settings name outside of a run, whether or not it comes into play.

    Args:
        config: whose `deepspeed.config` is None where the file ships with polyprag.
    """
    found = [endpoint_of(config, section) for section in (AUGMENT_ENDPOINT, INDEX_ENDPOINT)]
    for key, value in (
        (ADDRESS, config.cluster.address),
        (CACHE_DIR, config.data.cache_dir),
        (DEEPSPEED, config.deepspeed.config),
        (MLFLOW, config.log.mlflow_uri),
        (WANDB, config.log.wandb_entity),
    ):
        found.append(None if value is None else Outside(key, {key: value}))
    return [each for each in found if each is not None]


def outside(config: Config, *, is_remote: bool) -> list[Outside]:
    """Returns what settings name outside of a run, as far as they come into play.

    Args:
        config: whose `deepspeed.config` is None where the file ships with polyprag.
        is_remote: whether the run is; else nothing is cached.
    """
    is_needed = {
        ADDRESS: True,
        CACHE_DIR: is_remote,
        DEEPSPEED: True,
        MLFLOW: "mlflow" in config.log.sinks,
        WANDB: "wandb" in config.log.sinks,
        AUGMENT_ENDPOINT: config.augment.backend == "openai",
        INDEX_ENDPOINT: config.index.encoder == "openai",
    }
    return [each for each in all_outside(config) if is_needed[each.use]]


def check(
    each: Outside, *, given: Collection[str], places: Mapping[str, str], trust_run: bool
) -> None:
    """Raises ConfigError unless the user has given what a run names; remembers it if he does now.

    Args:
        each: what the run's and the user's settings together name.
        given: the keys of settings that the user has given in this command, those that have their
            defaults included.
        places: where the other ones stand, by key.
        trust_run: whether he trusts all that the run names.
    """
    named = [key for key in each.values if key not in given]
    if not named:
        remember([each])
        return
    if each.is_trusted:
        return
    key_env = each.key_name
    if trust_run and (key_is_usual(each) or not any(k.endswith(".api_key_env") for k in named)):
        remember([each])
        return
    shown = " ".join(f"{key}={each.values[key]}" for key in each.values if each.values[key])
    where = places.get(named[0], "this run")
    host = host_of(each)
    remedy = f"give it yourself ({shown})"
    if trust_run:
        what = f"--trust-run covers keys named OPENAI_API_KEY or POLYPRAG_..., not ${key_env}"
    else:
        what = "you haven't given it, and a run alone doesn't decide what is reached from here"
        remedy += ", or trust all that this run names with --trust-run"
    raise ConfigError(f"{where}: {shown}{f' [{host}]' if host else ''}: {what}: {remedy}")


def host_of(each: Outside) -> str | None:
    """Returns the host that would be reached; None where it is none."""
    value = next(iter(each.values.values()))
    if each.use in (AUGMENT_ENDPOINT, INDEX_ENDPOINT) and value is None:
        return "api.openai.com"
    if value is None or each.use in (CACHE_DIR, DEEPSPEED, WANDB):
        return None
    try:
        return urlsplit(value if "//" in value else f"//{value}").hostname
    except ValueError:
        return value


def without(config: Config, keys: Iterable[str]) -> Config:
    """Returns a config with some settings at their defaults."""
    default = Config()
    for key in keys:
        section, _, leaf = key.partition(".")
        as_by_default = {leaf: getattr(getattr(default, section), leaf)}
        config = replace(config, **{section: replace(getattr(config, section), **as_by_default)})
    return config


def harmless(config: Config) -> Config:
    """Returns a config that names nothing outside of the run."""
    return without(config, KEYS)


def allow(all_of: Iterable[Outside]) -> None:
    """Lets this process use what the process that it works for has checked."""
    _given.update(each.entry for each in all_of)


def key_is_usual(each: Outside) -> bool:
    """Returns whether `--trust-run` alone covers the key of an endpoint, if it has one."""
    return each.key_name is None or bool(_KEY_NAME.fullmatch(each.key_name))


def remember(all_of: Iterable[Outside]) -> None:
    """Keeps in mind what the user has given; where nothing can be written, in this process."""
    new = [each.entry for each in all_of if not each.is_trusted]
    if not new:
        return
    _given.update(new)
    lines = "".join(
        json.dumps({"setting": name, "value": value}, allow_nan=False) + "\n" for name, value in new
    )
    path = state_file()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
        try:
            os.write(descriptor, lines.encode())  # one write: others may append, too
        finally:
            os.close(descriptor)


def state_file() -> Path:
    """Returns the file of what the user has given.

    In POLYPRAG_STATE_DIR, or `$XDG_STATE_HOME/polyprag`, which is `~/.local/state/polyprag` where
    that isn't set.
    """
    directory = os.environ.get(STATE_DIR)
    if directory:
        return Path(directory) / _FILE
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "polyprag" / _FILE


def _remembered() -> set[tuple[str, str]]:
    """Returns what the file says.

    Raises:
        ConfigError: somebody else could have written it.
    """
    path = state_file()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return set()
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return set()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise ConfigError(f"{path}: others can write it: make it yours alone (chmod 600)")
        lines = file.read(_MAX_BYTES).splitlines()
    found = set()
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            entry: dict[str, Any] = json.loads(line)
            found.add((str(entry["setting"]), str(entry["value"])))
    return found

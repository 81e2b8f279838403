"""The settings that may name a directory or a file: seen from everywhere once they are absolute.

A job and a Ray worker run in other directories than the command that they are for, and RUN is used
from any. A name on a hub, of what ships with polyprag (`polyprag:NAME`) and a URL stay as they are.
"""

import os
from collections.abc import Callable
from dataclasses import replace

from polyprag.config.run import Config
from polyprag.config.shipped import shipped_configs
from polyprag.pretrained.where import is_gguf

# When they are read as a path; else they are another's name of a model.
PATH_SETTINGS: dict[str, Callable[[Config], bool]] = {
    "model.path": lambda config: True,
    "augment.model": lambda config: config.augment.backend == "hf",
    "augment.avoid": lambda config: True,
    "index.encoder_path": lambda config: config.index.encoder in ("sentence", "transformers"),
    "index.query_encoder_path": lambda config: config.index.encoder == "transformers",
    "retrieval.reranker": lambda config: True,
    "data.cache_dir": lambda config: True,
    "deepspeed.config": lambda config: True,
}
_SHIPPED = "polyprag:"


def absolute_if_there(name: str) -> str:
    """Returns a directory or GGUF file as a process elsewhere finds it; other names as they are."""
    is_here = not name.startswith(_SHIPPED) and (os.path.isdir(name) or is_gguf(name))
    return os.path.abspath(name) if is_here else name


def with_absolute_paths(config: Config) -> Config:
    """Makes absolute what settings name on this machine."""
    for key, path in changed_paths(config).items():
        section, _, leaf = key.partition(".")
        values = replace(getattr(config, section), **{leaf: path})
        config = replace(config, **{section: values})
    return config


def changed_paths(config: Config) -> dict[str, str]:
    """Returns the settings that `with_absolute_paths` changes, with what they become."""
    found = {}
    for key, is_path in PATH_SETTINGS.items():
        section, _, leaf = key.partition(".")
        value = getattr(getattr(config, section), leaf)
        if not value or not is_path(config):
            continue
        if key == "deepspeed.config" and value in shipped_configs():
            continue
        is_file = key in ("deepspeed.config", "augment.avoid") and os.path.isfile(value)
        is_made = key == "data.cache_dir"  # where it isn't there yet
        path = os.path.abspath(value) if is_file or is_made else absolute_if_there(value)
        if path != value:
            found[key] = path
    return found

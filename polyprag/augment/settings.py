"""Which settings a corpus was augmented with, and what other ones would redo."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from polyprag.config import Config
from polyprag.config.paths import absolute_if_there
from polyprag.errors import ConfigError
from sharding.corpus.manifest import CorpusManifest

DROPPED = "dropped"  # beside the settings in `manifest.augmentation`: items that aren't kept
_NOT_SETTINGS = (DROPPED,)
# The same model may move to another machine, and a reply that needs fewer tokens is as good.
_FREE = ("endpoint", "max_new_tokens")


def describe(config: Config) -> dict[str, Any]:
    """Returns the settings that decide what is written; recorded in the manifest."""
    augment = config.augment
    if augment.backend == "none":
        return {"backend": "none"}
    settings: dict[str, Any] = {
        "backend": augment.backend,
        "num_rewrites": augment.wanted_rewrites,
        "num_qas": augment.wanted_qas,
    }
    if augment.avoid is not None:
        settings["avoid"] = augment.avoid
    if augment.backend == "rules":
        return settings
    settings |= {"max_new_tokens": augment.max_new_tokens, "temperature": augment.temperature}
    if augment.style != "auto":  # earlier runs, and most, say nothing of it
        settings["style"] = augment.style
    if augment.backend == "hf":
        return settings | {"model": absolute_if_there(augment.model or config.model.path)}
    return settings | {"model": augment.model, "endpoint": _without_secrets(augment.base_url)}


def recorded_settings(manifest: CorpusManifest) -> dict[str, Any] | None:
    """Returns what `describe` gave when the corpus was augmented; None where it isn't."""
    if manifest.augmentation is None:
        return None
    found = {
        name: value for name, value in manifest.augmentation.items() if name not in _NOT_SETTINGS
    }
    if found.get("backend") == "hf":
        found["model"] = absolute_if_there(str(found.get("model")))
    return found


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that make a reply another one."""
    return {name: value for name, value in settings.items() if name not in _FREE}


def differences(recorded: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Returns the names of what would be written otherwise."""
    return sorted(
        name
        for name in recorded.keys() | settings.keys()
        if recorded.get(name) != settings.get(name) and name not in _FREE
    )


def refuse_other_settings(
    corpus_dir: str,
    recorded: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    num_written: int,
    num_passages: int,
    num_open: int,
) -> None:
    """Raises `ConfigError` where the settings aren't those that passages were written with.

    Args:
        corpus_dir: named in the error.
        recorded: see `recorded_settings`.
        settings: of now.
        num_written: passages that are written about, all of which would be again.
        num_passages: all that there are.
        num_open: passages that nothing is written about yet.
    """
    different = differences(recorded, settings)
    if not different:
        return
    changes = ", ".join(
        f"augment.{name} {recorded.get(name)!r} there and {settings.get(name)!r} now"
        for name in different
    )
    rest = f" and writes only the {num_open:,} others as it says now" if num_open else ""
    raise ConfigError(
        f"{corpus_dir}: {num_written:,} of {num_passages:,} passages were written about with other "
        f"settings ({changes}): --overwrite writes them again, --keep keeps them{rest}; or use the "
        "same settings"
    )


def _without_secrets(base_url: str | None) -> str | None:
    """Returns an endpoint's URL without a user, a password or a query."""
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"

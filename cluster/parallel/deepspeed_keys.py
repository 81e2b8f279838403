"""Whether DeepSpeed knows the keys of a config: it passes over most of those that it doesn't.

Which keys there are only DeepSpeed's own reader knows. So it is given the config as a mapping that
remembers what it was asked for.
"""

import difflib
import logging
from collections.abc import Iterator
from typing import Any

from polyprag.errors import ConfigError


class _Asked(dict[str, Any]):
    """A mapping that knows what it was asked for, and so do the mappings in it."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(
            {key: _Asked(v) if isinstance(v, dict) else v for key, v in values.items()}
        )
        self.asked: set[str] = set()

    def __copy__(self) -> "_Asked":
        return self  # what DeepSpeed asks of its copy counts

    def __iter__(self) -> Iterator[str]:
        # With one of its own, `**` asks for the keys one by one: a section that is handed on whole,
        # to a model that refuses unknown keys itself, was asked for all.
        return iter(self.keys())

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def check_deepspeed_keys(config: dict[str, Any], *, where: str) -> None:
    """Refuses a DeepSpeed config with a key or a value that DeepSpeed doesn't know.

    Args:
        config: the whole of it.
        where: names its file in errors.

    Raises:
        ConfigError: names the key, and the known one that is nearest.
    """
    from deepspeed.runtime.config import DeepSpeedConfig
    from deepspeed.utils import logger

    # Its reader asks for the number of workers of a process group that isn't there yet.
    asked = _Asked({**config, "train_batch_size": 1})
    level = logger.level
    logger.setLevel(logging.ERROR)  # it prints all that it reads
    try:
        DeepSpeedConfig(asked)
    except Exception as error:  # AssertionError, ValueError, pydantic's and its own
        raise ConfigError(f"{where}: {_reason(error)}") from error
    finally:
        logger.setLevel(level)
    _refuse_unknown(asked, prefix="", where=where)


def _refuse_unknown(values: _Asked, *, prefix: str, where: str) -> None:
    for key in values.keys():  # noqa: SIM118 - not by `__iter__`, nor by asking
        if key not in values.asked:
            near = difflib.get_close_matches(key, values.asked, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else "remove it"
            raise ConfigError(f"{where}: DeepSpeed knows no key {prefix}{key}: {hint}")
    for key, value in values.items():
        if isinstance(value, _Asked) and value.asked:
            _refuse_unknown(value, prefix=f"{prefix}{key}.", where=where)


def _reason(error: Exception) -> str:
    """Returns what DeepSpeed, or the pydantic model of a section, says in one line."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return " ".join(str(error).split())[:300] or type(error).__name__
    first = errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg']}"
    near = _nearest_field(error, key)
    hint = f"did you mean {near}?" if near else "remove it"
    return f"DeepSpeed's {getattr(error, 'title', 'config')} knows no key {key}: {hint}"


def _nearest_field(error: Any, key: str) -> str | None:
    """Returns the field of the model that refused a key which is most like it."""
    import deepspeed.runtime.config as read_by_deepspeed
    import deepspeed.runtime.zero.config as of_zero

    for module in (read_by_deepspeed, of_zero):
        model = getattr(module, str(error.title), None)
        near = difflib.get_close_matches(key, getattr(model, "model_fields", ()), n=1)
        if near and "." not in key:
            return str(near[0])
    return None

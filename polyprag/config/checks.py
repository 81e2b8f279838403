"""What a setting must be: the checks that the dataclasses share, and the error that they raise."""

from polyprag.errors import ConfigError


def require(ok: bool, key: str, value: object, allowed: str) -> None:
    """Raises ConfigError, which names key, value and what is allowed, unless `ok`."""
    if not ok:
        raise ConfigError(f"{key}={value!r} can't be used: it must be {allowed}")


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ConfigError unless the value is among the allowed ones."""
    require(value in allowed, key, value, "one of " + ", ".join(allowed))


def require_at_least_one(config: object, section: str, *names: str) -> None:
    """Raises ConfigError unless each of a section's numbers so named is at least 1."""
    for name in names:
        value = getattr(config, name)
        require(value >= 1, f"{section}.{name}", value, "at least 1")


def require_none_negative(config: object, section: str, *names: str) -> None:
    """Raises ConfigError unless each of a section's numbers so named is 0 or more."""
    for name in names:
        value = getattr(config, name)
        require(value >= 0, f"{section}.{name}", value, "0 or more")

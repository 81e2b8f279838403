"""Errors of the method and its configuration; all belong to the `PolypragError` family."""

from sharding.errors import CorpusError, PolypragError

__all__ = ["ConfigError", "CorpusError", "PolypragError", "RunError"]


class ConfigError(PolypragError):
    """A configuration key or value can't be used; names the key and what is allowed."""


class RunError(PolypragError):
    """A run directory lacks what a stage needs; names the stage that makes it."""

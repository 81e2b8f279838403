"""What commands print: everything goes through here, so that no text from elsewhere acts."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from sharding.printable import printable, printable_json
from sharding.storage.decoding import shown_json

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 120  # of tables in a file or a pipe, which have no width of their own


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Prints lines; parts of them that come from elsewhere are `printable` lines themselves.

    Args:
        text: one line or several.
        err: whether to stderr.
        nl: whether a newline follows.
    """
    click.echo(printable(str(text), lines=True), err=err, nl=nl)


def echo_json(value: Any, *, indent: int | None = None) -> None:
    """Prints JSON."""
    click.echo(printable_json(shown_json(value, indent=indent, ascii_only=False)))


def console() -> "Console":
    """Returns where tables are printed: as wide as the terminal, and else wide enough for all."""
    from rich.console import Console

    has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if has_width else _WIDTH)

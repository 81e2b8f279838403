"""What commands print: everything goes through here, so that no text from elsewhere acts."""

from typing import Any

import click

from sharding.printable import printable, printable_json
from sharding.storage.decoding import shown_json


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

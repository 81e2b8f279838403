"""The `polyprag` command line: one module a command, each importing what it needs when it runs."""

from polyprag.cli.main import main

__all__ = ["main"]

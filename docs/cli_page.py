"""Writes docs/cli.md from the commands' own help: `make docs`."""

import sys
from pathlib import Path

import click

from polyprag.cli import main

PAGE = Path(__file__).parent / "cli.md"
_INTRODUCTION = """# The command line

This page is written by `make docs` from the commands' own help; edit the help, not the page.
"""


def page() -> str:
    """Returns the page: every command's help, 80 columns wide."""
    context = click.Context(main, info_name="polyprag", **main.context_settings)
    return "\n".join([_INTRODUCTION, *_sections(main, context)])


def _sections(command: click.Command, context: click.Context) -> list[str]:
    context.terminal_width = context.max_content_width = 80
    level = "#" * min(2 + context.command_path.count(" "), 4)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    sections = [f"{level} {context.command_path}\n\n```text\n{text}\n```\n"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                sections += _sections(inner, click.Context(inner, info_name=name, parent=context))
    return sections


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")

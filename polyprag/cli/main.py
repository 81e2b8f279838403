"""The `polyprag` group: finds commands when they are asked for, and turns errors into one line.

Exit status: 0 done, 2 a mistake that the user can mend, 75 a failure that another try may mend, 70
a worker's that none does, 130 interrupted, 143 told to end (SIGTERM), 1 a bug (with traceback).
"""

import importlib
from typing import Any, NoReturn

import click

from polyprag.cli.groups import SuggestingGroup
from polyprag.cli.output import echo
from polyprag.errors import OF_THE_MACHINE, PolypragError, Terminated
from polyprag.garbage import collect_seldom
from polyprag.sigterm import on_sigterm
from polyprag.streams import outlive_readers
from polyprag.threads import share_cores
from polyprag.version import __version__
from sharding.printable import printable

_SECTIONS = {  # in the order of a run
    "From passages to answers": (
        "prepare",
        "augment",
        "plan",
        "teach",
        "encode",
        "index",
        "ask",
        "serve",
        "export",
    ),
    "Measure": ("questions", "evaluate", "report", "calibrate"),
    "Change what is encoded": ("add", "remove", "train-more", "distill"),
    "Watch and check a run": ("status", "checkpoint", "inspect", "verify"),
    "On a cluster": ("submit", "jobs"),
    "Settings": ("config",),
}
COMMANDS = tuple(name for names in _SECTIONS.values() for name in names)


class UserError(click.ClickException):
    """A mistake shown as one line on stderr."""

    def __init__(self, error: str, *, exit_status: int = 2) -> None:
        super().__init__(error)
        self.exit_code = exit_status  # type: ignore[misc] # a class variable in click's words

    def show(self, file: Any = None) -> None:
        """Prints `error: ...` to stderr."""
        echo(f"error: {printable(self.message)}", err=True)


class CommandGroup(SuggestingGroup):
    """Imports a command's module only when that command is asked for."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command line; a pipe that is closed on the other side ends none of its work."""
        outlive_readers()
        share_cores()
        collect_seldom()
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order in which a run goes through them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of that name, from `polyprag.cli.<name>.command`."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"polyprag.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands by what they are for."""
        width = formatter.width - 6 - max(map(len, COMMANDS))
        for title, names in _SECTIONS.items():
            with formatter.section(title):
                found = {name: self.get_command(ctx, name) for name in names}
                formatter.write_dl(
                    [(name, it.get_short_help_str(width)) for name, it in found.items() if it]
                )

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; user errors and interrupts end it without a traceback."""
        try:
            with on_sigterm(_terminate):
                return super().invoke(ctx)
        except PolypragError as error:
            raise UserError(str(error), exit_status=error.exit_status) from None
        except MemoryError as error:
            raise UserError(
                f"not enough memory ({error or 'no more could be had'}): `polyprag verify RUN` "
                "tells whether a file asks for more than it holds"
            ) from None
        except click.ClickException as error:
            # It names arguments, such as files that a shell's glob has found.
            vars(error)["message"] = printable(error.message, lines=True)
            raise
        except OSError as error:
            if error.errno not in OF_THE_MACHINE:
                raise
            raise UserError(": ".join(filter(None, [error.filename, error.strerror]))) from None
        except Terminated as told:
            what = str(told) or "told to by SIGTERM"
            echo(f"\nended: {what}; run the same command again to continue", err=True)
            raise click.exceptions.Exit(143) from None
        except KeyboardInterrupt:
            echo("\ninterrupted: run the same command again to continue", err=True)
            raise click.exceptions.Exit(130) from None


def _terminate() -> NoReturn:
    """Ends what a command does so that what it holds is given back."""
    raise Terminated


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="polyprag %(version)s")
def main() -> None:
    """Encode passages into weights, then answer questions from them.

    All commands work on a run directory RUN and can be stopped and run again: they keep
    what is done. The usual order:

    \b
      polyprag prepare  RUN passages.jsonl --config quickstart
      polyprag augment  RUN
      polyprag encode   RUN
      polyprag index    RUN
      polyprag ask      RUN "Where was Ada Lovelace born?"
      polyprag evaluate RUN --questions questions.jsonl --out results/

    Settings come from --config files and key=value arguments, which prepare saves in RUN
    for the commands after it. `polyprag config show` lists them all.
    """

"""Groups of commands: one that is mistyped is answered with those that are nearly the same."""

import difflib

import click


class SuggestingGroup(click.Group):
    """Names the nearest commands where an unknown one is given."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command that the arguments begin with, and the arguments behind it.

        Raises:
            click.UsageError: there is no such command.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0].lower(), self.list_commands(ctx))
            if not near:
                raise
            message = f"No such command {args[0]!r}. Did you mean {' or '.join(near)}?"
            raise click.UsageError(message, ctx) from error

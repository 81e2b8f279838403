"""`polyprag report`: an evaluation's table, sample answers with their mixtures, and a picture."""

import click

from polyprag.cli.arguments import (
    config_option,
    json_option,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
)
from polyprag.cli.output import console, echo_json


@click.command("report")
@run_argument
@overrides_argument
@click.option(
    "--results",
    metavar="DIR",
    help="Where `polyprag evaluate` wrote results.json.  [required]",
)
@click.option(
    "--questions",
    "questions_path",
    metavar="FILE.jsonl",
    help="What the three sample questions are taken from.  [required]",
)
@click.option("--picture", metavar="FILE.png", help="Where the picture goes.  [required]")
@config_option
@json_option
def command(
    run: str,
    arguments: tuple[str, ...],
    results: str | None,
    questions_path: str | None,
    picture: str | None,
    configs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show an evaluation: its table, sample answers and a picture.

    Each sample comes with whether it is right, the passages behind it and its mixture of experts.
    Two of them are answered right and one isn't, as far as there are such among some questions
    spread over the file.

    \b
    Examples:
      polyprag report runs/wiki --results results/popqa --questions popqa.jsonl \\
          --picture popqa.png
    """
    if results is None or questions_path is None or picture is None:
        given = {"--results": results, "--questions": questions_path, "--picture": picture}
        missing = ", ".join(name for name, value in given.items() if value is None)
        raise click.UsageError(f"give {missing} too, as in the example of `polyprag report --help`")
    config = settings_of(run, configs, only_overrides(arguments))
    from polyprag.evaluation.report import make_report, print_report

    report = make_report(
        run, config, results_dir=results, questions_path=questions_path, picture=picture
    )
    if as_json:
        echo_json(report.fields())
    else:
        print_report(report, console())

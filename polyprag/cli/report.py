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
from polyprag.cli.output import echo_json


@click.command("report")
@run_argument
@overrides_argument
@click.option(
    "--results", required=True, metavar="DIR", help="Where `polyprag evaluate` wrote results.json."
)
@click.option(
    "--questions",
    "questions_path",
    required=True,
    metavar="FILE.jsonl",
    help="What the three sample questions are taken from.",
)
@click.option("--picture", required=True, metavar="FILE.png", help="Where the picture goes.")
@config_option
@json_option
def command(
    run: str,
    arguments: tuple[str, ...],
    results: str,
    questions_path: str,
    picture: str,
    configs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show an evaluation: its table, sample answers and a picture.

    Each sample comes with whether it is right, the passages behind it and its mixture of experts.
    Two of them are answered right and one isn't, as far as there are such.

    \b
    Examples:
      polyprag report runs/wiki --results results/popqa --questions popqa.jsonl \\
          --picture popqa.png
    """
    config = settings_of(run, configs, only_overrides(arguments))
    from rich.console import Console

    from polyprag.evaluation.report import make_report, print_report

    report = make_report(
        run, config, results_dir=results, questions_path=questions_path, picture=picture
    )
    if as_json:
        echo_json(report.fields())
    else:
        print_report(report, Console())

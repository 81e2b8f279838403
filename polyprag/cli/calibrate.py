"""`polyprag calibrate`: from an evaluation, which of a run's answers are to be trusted."""

import click

from polyprag.cli.arguments import json_option, run_argument
from polyprag.cli.output import echo, echo_json

_SHARE = click.FloatRange(0, 1, min_open=True)


@click.command("calibrate")
@run_argument
@click.option(
    "--results",
    "results_dirs",
    required=True,
    multiple=True,
    metavar="DIR",
    help="Where `polyprag evaluate` wrote. Several count together.",
)
@click.option("--f1", type=_SHARE, help="Trust as many answers as have this mean F1, 0 to 1.")
@click.option("--coverage", type=_SHARE, help="Trust this share of the answers, 0 to 1.")
@json_option
def command(
    run: str,
    results_dirs: tuple[str, ...],
    f1: float | None,
    coverage: float | None,
    as_json: bool,
) -> None:
    """Calibrate which of RUN's answers are trusted.

    Fits, for each mode, a regression that predicts an answer's F1 from its evidence: how much
    of the question the passage has, and how likely the model finds the answer. Writes it with a
    threshold to RUN/abstention.json, which `ask` uses from then on. Answers are trusted from an
    expected F1 of 0.5 on, unless --f1 or --coverage says otherwise. Use questions like those
    that will be asked, also some that the corpus doesn't answer, and not those that you report
    figures on.

    \b
    Examples:
      polyprag evaluate runs/wiki --questions dev.jsonl --out results/dev
      polyprag calibrate runs/wiki --results results/dev
      polyprag calibrate runs/wiki --results results/dev --f1 0.8
    """
    if f1 is not None and coverage is not None:
        raise click.UsageError("give --f1 or --coverage, not both")
    from msgspec import to_builtins

    from polyprag.answering.abstention import abstention_file
    from polyprag.evaluation.calibration import Target, calibrate

    made = calibrate(run, results_dirs, target=Target(f1=f1, coverage=coverage))
    made.abstention.save(run)
    if as_json:
        echo_json({**to_builtins(made.abstention), "left_out": made.left_out})
        return
    for mode, rule in made.abstention.modes.items():
        trusted = "" if rule.f1_trusted is None else f", their F1 {100 * rule.f1_trusted:.1f}"
        echo(
            f"{mode}: {100 * rule.coverage:.0f} % of {rule.num_questions:,} answers are trusted "
            f"(confidence {rule.threshold:.2f} or more){trusted}, of all {100 * rule.f1:.1f}"
        )
    for mode, reason in made.left_out.items():
        echo(f"{mode}: has no calibration: {reason}", err=True)
    echo(f"{abstention_file(run)}: used by `polyprag ask` from now on")

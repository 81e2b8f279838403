"""`polyprag calibrate`: from an evaluation, which of a run's answers are to be trusted."""

import click

from polyprag.cli.arguments import json_option, run_argument
from polyprag.cli.output import echo, echo_json
from sharding.counted import counted

_FEW = 100  # answers, of which a share is off by 10 points
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
    expected F1 of 0.5 on, unless --f1 or --coverage says otherwise. A mode whose answers the
    rule without a calibration sorts as well keeps that rule. Use questions like those
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

    from polyprag.answering.trust.abstention import abstention_file
    from polyprag.evaluation.calibration import Target, calibrate
    from sharding.storage.files import exists

    made = calibrate(run, results_dirs, target=Target(f1=f1, coverage=coverage))
    modes = {}
    if made.abstention is not None:
        made.abstention.save(run)
        modes = made.abstention.modes
    for mode, rule in modes.items():
        if rule.num_questions < _FEW:
            echo(
                f"warning: {mode}: {rule.num_questions} answers are few to calibrate by; some "
                "hundreds tell more",
                err=True,
            )
    if as_json:
        written = to_builtins(made.abstention) if made.abstention else {"modes": {}}
        echo_json({**written, "left_out": made.left_out})
        return
    for mode, rule in modes.items():
        trusted = "" if rule.f1_trusted is None else f", their F1 {100 * rule.f1_trusted:.1f}"
        echo(
            f"{mode}: {100 * rule.coverage:.0f} % of "
            f"{counted(rule.num_questions, 'answer')} are trusted (confidence "
            f"{rule.threshold:.2f} or more){trusted}, of all {100 * rule.f1:.1f}"
        )
        if rule.coverage == 0:
            echo(
                f"warning: {mode}: none of its answers is trusted: they are too seldom right; "
                "--coverage trusts the surest of them all the same",
                err=True,
            )
    for mode, reason in made.left_out.items():
        echo(f"{mode}: has no calibration: {reason}", err=True)
    if made.abstention is not None:
        echo(f"{abstention_file(run)}: used by `polyprag ask` from now on")
    elif not exists(abstention_file(run)):
        echo("nothing is written: answers are judged by the rule without a calibration, as before")
    else:
        echo(
            f"{abstention_file(run)}: stays as it was; delete it to have the rule without a "
            "calibration"
        )

"""`polyprag evaluate`: every method's score on a question file, as files and as a table."""

import shlex

import click

from polyprag.cli.arguments import (
    config_option,
    json_option,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
)
from polyprag.cli.output import console, echo, echo_json


@click.command("evaluate")
@run_argument
@overrides_argument
@click.option(
    "--questions",
    "questions_path",
    required=True,
    metavar="FILE.jsonl",
    help="JSON lines with id, question, answers and, where known, passages; .gz, too.",
)
@click.option(
    "--methods",
    default="closed,rag,poly,combine",
    show_default=True,
    metavar="NAME,...",
    help="Also: routed (no retrieval: the map of `polyprag distill`), and the controls "
    "poly-wrong-row (other passages' rows), poly-random-row (random ones) and poly-uniform "
    "(all experts alike).",
)
@click.option("--out", "out_dir", required=True, metavar="DIR", help="Where the results go.")
@click.option(
    "--gold-passages",
    is_flag=True,
    help="Use each question's own supporting passages in place of retrieval.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many questions.")
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    default=None,
    help="Passages for each question.  [default: retrieval.top_k]",
)
@config_option
@json_option
def command(
    run: str,
    arguments: tuple[str, ...],
    questions_path: str,
    methods: str,
    out_dir: str,
    gold_passages: bool,
    limit: int | None,
    top_k: int | None,
    configs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score RUN on a question file.

    The file has one JSON object a line: "id", "question" and "answers", a list of all texts that
    are right; with "passages" (objects with "title", "text" and "is_supporting") also
    --gold-passages works. docs/data.md has an example.

    Writes DIR/results.json with F1, exact match, answer presence, 95 % intervals, counts, F1 of the
    surest answers and latency for each method, and in DIR/predictions-METHOD.jsonl every prediction
    with its confidence and what that was made of. Run again after an interruption, it goes on;
    answers to other questions, or of another encoding or other settings, are never used.

    \b
    Examples:
      polyprag evaluate runs/wiki --questions popqa.jsonl --out results/popqa
      polyprag evaluate runs/wiki --questions popqa.jsonl --out results/controls \\
          --methods poly,poly-wrong-row,poly-uniform --gold-passages --limit 200
    """
    config = settings_of(run, configs, only_overrides(arguments))
    from polyprag.evaluation.report import results_table
    from polyprag.evaluation.risk_coverage import curve_table
    from polyprag.evaluation.run import evaluate, parse_methods
    from polyprag.progress import progress

    results = evaluate(
        run,
        config,
        questions_path=questions_path,
        methods=parse_methods(methods),
        out_dir=out_dir,
        top_k=top_k,
        gold_passages=gold_passages,
        limit=limit,
        show=progress,
    )
    if as_json:
        echo_json(results)
        return
    tables = console()
    tables.print(results_table(results))
    if curves := curve_table(results):
        tables.print(curves)
    echo(f"{out_dir}: results.json, predictions-*.jsonl")
    asked = shlex.join(["--results", str(out_dir), "--questions", questions_path])
    echo(f"next: polyprag report {run} {asked} --picture results.png")

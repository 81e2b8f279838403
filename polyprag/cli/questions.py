"""`polyprag questions`: a question file on the corpus's own lead facts."""

import click

from polyprag.cli.arguments import run_argument
from polyprag.cli.output import echo
from sharding.counted import counted


@click.command("questions")
@run_argument
@click.option("--out", required=True, metavar="FILE.jsonl", help="The question file to write.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, evenly spaced.")
def command(run: str, out: str, limit: int | None) -> None:
    """Write questions on the lead facts of RUN's passages.

    They ask in wordings that `augment` never uses, so they show whether an encoding learned
    facts or sentences. Each names the passage it was read off.

    \b
    Examples:
      polyprag questions runs/wiki --out lead-facts.jsonl --limit 500
      polyprag evaluate runs/wiki --questions lead-facts.jsonl --gold-passages \\
          --methods closed,rag,poly,poly-wrong-row --out results/lead-facts
    """
    from polyprag.evaluation.held_out_questions import write_lead_questions

    number = write_lead_questions(run, out, limit=limit)
    echo(f"{out}: {counted(number, 'question')}")

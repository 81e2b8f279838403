"""`polyprag distill`: a map from questions to mixtures, so that no passage need be retrieved."""

import click

from polyprag.cli.arguments import (
    config_option,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
)
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo
from sharding.counted import counted


@click.command("distill")
@run_argument
@overrides_argument
@click.option(
    "--hidden",
    type=click.IntRange(min=1),
    default=None,
    help="Units of the map's hidden layer; it needs about one a passage.  [default: two a passage, "
    "16,384 at most]",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Passes over the questions.",
)
@config_option
def command(
    run: str, arguments: tuple[str, ...], hidden: int | None, epochs: int, configs: tuple[str, ...]
) -> None:
    """Distil RUN/router, a map from a question to its mixture.

    Learns from the questions of `polyprag augment` what the rows of their passages say, with
    the encoder of the dense index. `--mode routed` then answers without retrieving anything.

    Retrieved rows are better: a question in other wordings than `augment` has gets a mixture
    that is off, and the map must grow with the corpus, beyond the rows themselves
    (docs/experiments.md). It knows only passages that have questions. Once the encoding or the
    index's encoder has changed it is refused: run this again. `polyprag remove` deletes it.

    \b
    Examples:
      polyprag distill runs/wiki
      polyprag distill runs/wiki --hidden 4096 --epochs 20
      polyprag ask runs/wiki "Where was Ada Lovelace born?" --mode routed
      polyprag evaluate runs/wiki --questions popqa.jsonl \\
          --methods poly,routed --out results/routed
    """
    from polyprag.encoding.base_check import check_run_base
    from polyprag.progress import progress
    from polyprag.routed.distill import distill
    from polyprag.routed.map_file import map_dir

    config = settings_of(run, configs, only_overrides(arguments))
    hold_lease(run, "distill")
    check_run_base(run, config)
    made = distill(run, config, hidden=hidden, epochs=epochs, show=progress)
    settings = made.settings
    held_out = ""
    if settings.cosine is not None:
        held_out = f"; cosine with the true mixture on held-out questions: {settings.cosine:.3f}"
    echo(
        f"{map_dir(run)}: {made.num_parameters:,} numbers, from "
        f"{counted(settings.num_questions, 'question')} on "
        f"{counted(settings.num_passages, 'passage')}{held_out}"
    )
    if made.hidden < settings.num_passages:
        echo(
            f"warning: {made.hidden:,} hidden units can't hold {settings.num_passages:,} passages: "
            "most mixtures will be far off; give more with --hidden, or use retrieval",
            err=True,
        )
    if made.num_without:
        echo(f"{made.num_without:,} passages have no question: the map knows nothing of them")
    echo(f'next: polyprag ask {run} "a question" --mode routed')

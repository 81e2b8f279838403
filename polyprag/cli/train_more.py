"""`polyprag train-more`: joint training goes on, over the corpus as it is now."""

from functools import partial

import click

from polyprag.cli.arguments import (
    allow_bare_option,
    check_bare,
    config_option,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
    tell_changes,
)
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo


@click.command("train-more")
@run_argument
@overrides_argument
@allow_bare_option
@config_option
def command(
    run: str, arguments: tuple[str, ...], allow_bare: bool, configs: tuple[str, ...]
) -> None:
    """Train experts and rows on, with the passages added since.

    Goes on from the last checkpoint of a finished `encode` for train.epochs more passes over
    the whole corpus, with a learning-rate schedule of its own. Rows that `add` trained are
    where their training begins. Run again after an interruption, it goes on; run again once
    it is done, it trains as much once more.

    \b
    Examples:
      polyprag train-more runs/wiki train.epochs=2
      polyprag train-more runs/wiki train.epochs=1 train.experts_lr=1e-3
    """
    config = settings_of(run, configs, only_overrides(arguments))
    from cluster.ray.driver import encode
    from sharding.storage.files import join

    check_bare(run, "train-more", allow=allow_bare)
    encode(
        run,
        config,
        more=True,
        lease=hold_lease(run, "train-more"),
        before_saving=partial(tell_changes, run, config),
    )
    echo(f"{join(run, 'encoding')}: encoded\nnext: polyprag index {run}")

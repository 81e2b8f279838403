"""`polyprag encode`: train the experts and every passage's routing row on Ray and DeepSpeed."""

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


@click.command("encode")
@run_argument
@overrides_argument
@config_option
def command(run: str, arguments: tuple[str, ...], configs: tuple[str, ...]) -> None:
    """Train the expert pool and a routing row for each passage.

    Starts Ray on this machine, or joins the cluster at cluster.address, and trains on
    cluster.workers workers. Checkpoints go to RUN/checkpoints, the losses to
    RUN/logs/metrics.jsonl and RUN/logs/tensorboard, the result to RUN/encoding. Run again
    after an interruption, it goes on from the last checkpoint, on any number of workers.

    \b
    Examples:
      polyprag encode runs/wiki
      polyprag encode runs/wiki train.epochs=8 cluster.workers=1
      polyprag encode runs/wiki --config llama-3-8b --config cluster/ray-address
    """
    config = settings_of(run, configs, only_overrides(arguments))
    from cluster.ray.driver import encode
    from sharding.storage.files import join

    encode(run, config, lease=hold_lease(run, "encode"))
    echo(f"{join(run, 'encoding')}: encoded\nnext: polyprag index {run}")

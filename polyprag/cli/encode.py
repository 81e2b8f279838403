"""`polyprag encode`: train the experts and every passage's routing row on Ray and DeepSpeed."""

from functools import partial

import click

from polyprag.cli.arguments import (
    allow_bare_option,
    check_bare,
    config_option,
    json_option,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
    show_result,
    tell_changes,
)
from polyprag.cli.lease import hold_lease
from sharding.counted import counted


@click.command("encode")
@run_argument
@overrides_argument
@allow_bare_option
@config_option
@json_option
def command(
    run: str,
    arguments: tuple[str, ...],
    allow_bare: bool,
    configs: tuple[str, ...],
    as_json: bool,
) -> None:
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
    from polyprag.encoding.manifest import EncodingManifest
    from sharding.storage.files import exists, join

    # What is being trained was let go when it began.
    is_begun = exists(join(run, "checkpoints", "manifest.json"))
    check_bare(run, "encode", allow=allow_bare or is_begun)
    encode(
        run,
        config,
        lease=hold_lease(run, "encode"),
        before_saving=partial(tell_changes, run, config),
    )
    encoding = join(run, "encoding")
    manifest = EncodingManifest.load(encoding)
    fields = {
        "encoding": encoding,
        "num_passages": manifest.num_passages,
        "num_experts": manifest.num_experts,
        "rank": manifest.rank,
        "steps": manifest.trained.steps,
        "epochs": manifest.trained.epochs,
    }
    text = (
        f"{encoding}: {counted(manifest.num_passages, 'passage')} encoded in "
        f"{counted(manifest.trained.steps, 'step')}\nnext: polyprag index {run}"
    )
    show_result(as_json, fields, text)

"""`polyprag config`: look at, check and copy configs before a cluster pays for them."""

from dataclasses import asdict
from pathlib import Path

import click

from polyprag.cli.arguments import (
    config_files_option,
    json_option,
    only_overrides,
    overrides_argument,
    show_result,
)
from polyprag.cli.groups import SuggestingGroup
from polyprag.cli.output import echo
from sharding.counted import counted


@click.group("config", cls=SuggestingGroup)
def command() -> None:
    """Show, check, copy and list configs."""


@command.command("show")
@overrides_argument
@click.option("--run", metavar="RUN", help="Start from the settings saved in this run directory.")
@config_files_option
@json_option
def show(
    arguments: tuple[str, ...], run: str | None, configs: tuple[str, ...], as_json: bool
) -> None:
    """Print every setting as a command would get it.

    \b
    Examples:
      polyprag config show
      polyprag config show --config quickstart train.epochs=8
      polyprag config show --run runs/wiki --json
    """
    from polyprag.config.files import load_config, to_yaml
    from polyprag.errors import RunError
    from sharding.storage.files import exists, join

    if run is not None and not exists(join(run, "config.yaml")):
        raise RunError(f"{run} has no config.yaml: `polyprag prepare {run} SOURCE` writes it")
    # What a run names out of itself is shown, and nothing of it used.
    config = load_config(configs, only_overrides(arguments), run, uses=(), keeps_unused=True)
    show_result(as_json, asdict(config), to_yaml(config).rstrip("\n"))


@command.command("validate")
@click.argument("configs", nargs=-1, required=True, metavar="FILE... [KEY=VALUE]...")
def validate(configs: tuple[str, ...]) -> None:
    """Check that configs merge to a usable whole, in the order given.

    Exits with 2 at an unknown key, a value that can't be used, or settings that don't fit
    together. Loads no model and starts nothing.

    \b
    Examples:
      polyprag config validate my.yaml
      polyprag config validate llama-3-8b cluster/ray-address cluster.workers=16
    """
    from polyprag.cli.arguments import split_overrides
    from polyprag.config.files import load_config, read_yaml

    files, overrides = split_overrides(configs)
    config = load_config(files, overrides)
    if config.deepspeed.config is not None:
        read_yaml(config.deepspeed.config)
    lanes, microbatch = config.data.lanes, config.data.microbatch
    echo(
        f"ok: {counted(lanes * microbatch, 'example')} a step "
        f"({counted(lanes, 'lane')} of {microbatch:,}) on "
        f"{counted(config.cluster.workers, 'worker')}, "
        f"{counted(config.experts.num, 'expert')} of rank {config.experts.rank}, "
        f"{counted(config.train.epochs, 'epoch')}"
    )


@command.command("copy")
@click.argument("name")
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the target if it is there.")
def copy(name: str, target: Path | None, force: bool) -> None:
    """Copy a shipped config to edit it; TARGET is NAME.yaml in this directory by default.

    \b
    Examples:
      polyprag config copy llama-3.2-1b
      polyprag config copy deepspeed/zero3 my-zero3.yaml
    """
    from polyprag.config.shipped import shipped_configs
    from polyprag.errors import ConfigError
    from sharding.storage.files import atomic_write

    shipped = shipped_configs()
    source = shipped.get(name)
    if source is None:
        raise ConfigError(f"no config {name} is shipped: choose one of {', '.join(shipped)}")
    target = Path(source.name) if target is None else target
    if target.is_dir():
        target = target / source.name
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already: name another target, or add --force")
    with atomic_write(target) as file:
        file.write(source.read_bytes())
    echo(f"{target}: a copy of {name}; check it with `polyprag config validate {target}`")


@command.command("list")
def list_shipped() -> None:
    """List the shipped configs, each with what it is for."""
    from polyprag.config.shipped import shipped_configs

    shipped = shipped_configs()
    width = max(map(len, shipped), default=0)
    for name, path in shipped.items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        echo(f"{name:{width}}  {first.removeprefix('#').strip()}")

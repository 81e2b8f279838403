"""What the commands' arguments have in common: RUN, --config and trailing key=value."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from polyprag.cli.output import echo, echo_json
from sharding.counted import counted
from sharding.printable import printable, without_passwords

if TYPE_CHECKING:
    from polyprag.config import Config
    from sharding.ingest.folders import LeftOut

_OVERRIDE = re.compile(r"[A-Za-z]\w*(\.\w+)+=", re.ASCII)
_BARE = re.compile(r"([A-Za-z]\w*)=", re.ASCII)


def _checked_name(context: click.Context, argument: click.Parameter, value: str) -> str:
    """Returns a name that can be shown in the middle of a line."""
    if without_passwords(value) != printable(value):
        raise click.BadParameter("it has control characters in its name")
    return value


run_argument = click.argument("run", metavar="RUN", callback=_checked_name)
overrides_argument = click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
config_files_option = click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="FILE",
    help="A YAML file, or the name of a shipped config (`polyprag config list`). May be given "
    "several times, later ones win. The settings saved in RUN hold for what it doesn't say.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
allow_bare_option = click.option(
    "--allow-bare",
    is_flag=True,
    help="Train also where passages are open or more than a fifth have no rewrite and question.",
)
_TRUST_RUN = "polyprag.trust_run"
_UNREAD_SHOWN = 20


def _note_trust(context: click.Context, option: click.Parameter, value: bool) -> None:
    context.meta[_TRUST_RUN] = value


trust_option = click.option(
    "--trust-run",
    is_flag=True,
    expose_value=False,
    callback=_note_trust,
    help="Use the endpoints, keys, addresses and directories that RUN itself names, now and later. "
    "Otherwise only those count that you have given yourself.",
)
# What of that a command may use, see `polyprag.config.trust`; the other ones use their cache.
_USES = {
    "prepare": ("cluster.address",),
    "augment": ("cluster.address", "data.cache_dir", "augment"),
    "teach": ("cluster.address", "data.cache_dir"),
    "encode": (
        *("cluster.address", "data.cache_dir", "deepspeed.config"),
        *("log.mlflow_uri", "log.wandb_entity"),
    ),
    "add": ("cluster.address", "data.cache_dir", "augment", "index"),
    "index": ("cluster.address", "data.cache_dir", "index"),
    "remove": ("data.cache_dir", "index"),
    "plan": ("data.cache_dir", "deepspeed.config"),
}
_USES["train-more"] = _USES["encode"]
_SAVING = (  # the settings, in RUN
    *("prepare", "augment", "teach", "encode", "train-more", "add", "index"),
)


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--config` and `--trust-run`."""
    return trust_option(config_files_option(command))


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts trailing arguments into plain ones and `section.key=value` ones, each in order.

    A file whose name looks like an override is written `./name`.
    """
    overrides = [text for text in arguments if _OVERRIDE.match(text)]
    return [text for text in arguments if not _OVERRIDE.match(text)], overrides


def only_overrides(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments, all of which must be `section.key=value`.

    Raises:
        click.UsageError: one isn't; the likely key is named.
    """
    plain, overrides = split_overrides(arguments)
    for text in plain:
        refuse_bare_override(text)
        raise click.UsageError(f"unexpected argument {text!r}: settings are section.key=value")
    return overrides


def sources_and_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts trailing arguments into sources of passages and `section.key=value` ones.

    Raises:
        click.UsageError: one is no file, and looks like a setting without its section.
    """
    from sharding.storage.files import exists

    sources, overrides = split_overrides(arguments)
    for source in sources:
        if "=" in source and not exists(source):
            refuse_bare_override(source)
    return sources, overrides


def show_left_out(left_out: "LeftOut") -> None:
    """Prints what lies in the folders that were named and isn't read, by kind."""
    if left_out.counts:
        echo(f"left out: {printable(left_out.text())}")


def show_skipped(skipped: Mapping[str, int], unread: Mapping[str, str]) -> None:
    """Prints how many passages and documents were left out, by reason, and which documents.

    Args:
        skipped: how many, by reason.
        unread: why a document has no passage, by its file.
    """
    from sharding.ingest.document_groups import WITHOUT_TEXT
    from sharding.ingest.rows import DOCUMENT_FAULTS

    for reason, count in skipped.items():
        what = "document" if reason in {WITHOUT_TEXT, *DOCUMENT_FAULTS} else "passage"
        echo(f"skipped {counted(count, what)}: {printable(reason)}")
    for file, why in list(unread.items())[:_UNREAD_SHOWN]:
        echo(f"  {printable(without_passwords(file))}: {printable(why)}")
    if len(unread) > _UNREAD_SHOWN:
        echo(f"  and {len(unread) - _UNREAD_SHOWN:,} more documents")


def check_bare(run: str, command: str, *, allow: bool) -> None:
    """Refuses to train a corpus about which too little is written, or says what is missing.

    Raises:
        RunError: see `polyprag.augment.bare.refuse_bare`.
    """
    from polyprag.augment.bare import refuse_bare
    from sharding.corpus.manifest import MANIFEST_NAME, CorpusManifest
    from sharding.storage.files import exists, join

    if not exists(join(run, "corpus", MANIFEST_NAME)):
        return  # what trains says what comes first
    refuse_bare(
        run,
        CorpusManifest.load(join(run, "corpus")),
        allow=allow,
        say=lambda note: echo(f"note: {printable(note)}", err=True),
        go_on=f"polyprag {command} {run}",
    )


def show_result(as_json: bool, fields: Mapping[str, Any], text: str) -> None:
    """Prints what a command has done, as one JSON object or as text."""
    if as_json:
        echo_json(fields)
    else:
        echo(text)


def refuse_bare_override(text: str) -> None:
    """Raises click.UsageError if the text is `key=value` without the key's section."""
    bare = _BARE.match(text)
    if bare is None:
        return
    from polyprag.config.keys import nearest_key

    near = nearest_key(bare[1])
    hint = f"did you mean {near}={text[bare.end() :]}?" if near else "keys are section.key"
    raise click.UsageError(f"{text!r} lacks the key's section: {hint}")


def with_checked_model(config: "Config") -> "Config":
    """Returns the config with absolute paths, once what can be seen of the model is right.

    Nothing is loaded, and a hub isn't asked.

    Raises:
        ConfigError: a directory isn't there, isn't a model's, or a file in it is damaged.
    """
    from polyprag.config.paths import with_absolute_paths
    from polyprag.errors import ConfigError
    from polyprag.pretrained import UnusableModelError
    from polyprag.pretrained.files import check_model_files

    try:
        check_model_files(config.model.path)
    except UnusableModelError as error:
        raise ConfigError(f"model.path={config.model.path!r} can't be used: {error}") from error
    return with_absolute_paths(config)


def settings_of(run: str, configs: Sequence[str], overrides: Sequence[str]) -> "Config":
    """Returns the config that the command works with on a run directory.

    A command that saves it there does so with `keep_settings`, once it isn't refused any more.

    Raises:
        click.UsageError: RUN was left out.
        ConfigError: see `polyprag.config.files.load_config`.
    """
    if _OVERRIDE.match(run):
        raise click.UsageError(f"RUN is missing: the run directory comes before {run!r}")
    context = click.get_current_context()
    name = str(context.command.name)
    trust_run = bool(context.meta.get(_TRUST_RUN))
    config, _ = checked_settings(name, run, configs, overrides, trust_run=trust_run)
    return config


def tell_changes(run: str, config: "Config") -> None:
    """Says what of a run's saved settings changes with a config that takes their place."""
    from polyprag.config.files import changed_settings

    for change in changed_settings(run, config):
        echo(f"{run}: {printable(change)}", err=True)


def keep_settings(config: "Config", run: str) -> None:
    """Saves a config in a run, and says what changes."""
    from polyprag.config.files import save_config

    tell_changes(run, config)
    save_config(config, run)


def checked_settings(
    command: str,
    run: str,
    configs: Sequence[str],
    overrides: Sequence[str],
    *,
    trust_run: bool,
) -> "tuple[Config, bool]":
    """Returns the config that a command would work with, and whether it reaches out of the run.

    Args:
        command: which one.
        run: RUN.
        configs: of `--config`.
        overrides: `section.key=value`.
        trust_run: whether the user trusts what the run names, which is remembered.

    Raises:
        ConfigError: see `polyprag.config.files.load_config`.
    """
    from polyprag.config.files import load_config
    from polyprag.config.trust import CACHE_DIR, outside
    from polyprag.run_dir import INDEX
    from sharding.storage.files import exists, join
    from sharding.storage.urls import is_local

    config = load_config(
        configs,
        overrides,
        run,
        uses=_USES.get(command, (CACHE_DIR,)),
        trust_run=trust_run,
        keeps_unused=command in _SAVING,
    )
    reaches = bool(outside(config, is_remote=not is_local(run)))
    if (trust_run or reaches) and exists(join(run, INDEX, "manifest.json")):
        from polyprag.retrieval.query_encoder import check_endpoint

        reaches |= check_endpoint(run, trust_run=trust_run)
    return config, reaches

"""`polyprag serve`: answers over HTTP, by OpenAI's interface, with a page to ask."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import click

from polyprag.cli.arguments import config_option, run_argument, settings_of
from polyprag.cli.output import echo
from polyprag.errors import ConfigError, RunError
from polyprag.sigterm import on_sigterm
from sharding.counted import counted

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*")


@click.command("serve")
@run_argument
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Others than this machine's own need keys.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option(
    "--name",
    default=None,
    help="What clients name the model.  [default: RUN's last part]",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Keys that clients may use, one a line, in a file of mode 0600; those of "
    "POLYPRAG_API_KEYS, between commas, count too.",
)
@click.option(
    "--replicas",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Serve with so many copies over the nodes of a Ray cluster, behind Ray Serve.",
)
@click.option(
    "--address",
    default=None,
    help="The Ray cluster to join, with --replicas.  [default: cluster.address; without one, "
    "Ray starts here]",
)
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Answers that are said at a time.  [default: generation.batch_size]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Tokens that a request may ask for.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Answers that are accepted before they have ended; beyond it clients get 429.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="For a request; and for those that are accepted when the server is told to end.",
)
@click.option("--access-log", is_flag=True, help="A line on stderr for each request.")
@config_option
def command(
    run: str,
    settings: tuple[str, ...],
    host: str,
    port: int,
    name: str | None,
    keys: Path | None,
    replicas: int | None,
    address: str | None,
    parallel: int | None,
    max_tokens: int,
    max_waiting: int,
    timeout: float,
    access_log: bool,
    configs: tuple[str, ...],
) -> None:
    """Answer from RUN over HTTP, as OpenAI's interface has it.

    \b
    Examples:
      polyprag serve runs/wiki
      polyprag serve runs/wiki --port 0 --name wiki retrieval.method=hybrid
      polyprag serve runs/wiki --host 0.0.0.0 --keys keys.txt --parallel 64
      polyprag serve s3://bucket/run --replicas 8 --address auto

    NAME is the base model alone; NAME:rag, NAME:poly, NAME:combine and NAME:poly:KEY,KEY answer
    with passages. What changes in RUN is taken in within seconds. Ctrl-C or SIGTERM answers what
    was accepted, and ends. docs/serving.md has clients, metrics and replicas on a cluster; there
    is a page at /.
    """
    config = settings_of(run, configs, settings)
    try:
        from polyprag.serving.app import make_app
        from polyprag.serving.keys import LOOPBACK, read_keys
        from polyprag.serving.limits import RequestLimits
        from polyprag.serving.server import open_port, run_server, url_of
        from polyprag.serving.service import Service
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a server needs the package {error.name}: run `pip install 'polyprag[serve]'`"
        ) from error
    known = read_keys(keys)
    if host not in LOOPBACK and not known:
        raise ConfigError(
            f"--host {host}: whoever reaches that address could ask; give clients keys by --keys "
            "FILE or POLYPRAG_API_KEYS, or listen on 127.0.0.1"
        )
    name = _name(name, run)
    limits = RequestLimits(max_tokens=max_tokens, max_waiting=max_waiting, timeout_s=timeout)
    hosts = None if known else LOOPBACK
    if replicas is not None:
        if not port:
            raise click.UsageError("--port 0: replicas need a port that all nodes know")
        if address is not None:
            config = replace(config, cluster=replace(config.cluster, address=address))
        from cluster.serving.replicas import ServedRun, serve_replicas

        served = ServedRun(run, config, name, limits, parallel, tuple(known), hosts)
        echo(f"starting {counted(replicas, 'replica')} of {run} on Ray ...", err=True)
        told_to_end = Event()
        with on_sigterm(told_to_end.set):
            serve_replicas(
                served,
                replicas=replicas,
                host=host,
                port=port,
                on_started=lambda url: _show_where(url, [name]),
                ended=told_to_end.is_set,
            )
    else:
        with open_port(host, port) as listening:
            from polyprag.answering.engine import Engine

            echo(f"loading {run} ...", err=True)
            engine = Engine.open(run, config, most=parallel)
            if engine.stale_index:
                echo(f"note: {run}: {engine.stale_index}", err=True)
            echo(repr(engine), err=True)
            service = Service(engine, run_dir=run, name=name, limits=limits)
            if service.modes == ["closed"]:
                raise RunError(
                    f"{run} has neither an index nor an encoding, and so nothing to answer with: "
                    "run `polyprag index RUN` or `polyprag encode RUN` first"
                )
            names = [name, *(f"{name}:{mode}" for mode in service.modes)]
            run_server(
                make_app(service, key_digests=known, hosts=hosts),
                listening,
                grace_seconds=timeout,
                access_log=access_log,
                on_started=lambda: _show_where(url_of(listening), names),
            )
    echo("ended: what was accepted was answered", err=True)


def _show_where(url: str, names: Sequence[str]) -> None:
    echo(f"serving {', '.join(names)}\npage: {url}/\nOpenAI's interface: {url}/v1", err=True)


def _name(given: str | None, run: str) -> str:
    name = given or run.rstrip("/").rpartition("/")[2] or "polyprag"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: use letters, digits, dots, dashes and slashes")
    return name

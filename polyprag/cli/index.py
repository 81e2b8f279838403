"""`polyprag index`: BM25 and FAISS over the passages, with the routing rows beside them."""

import importlib.metadata

import click

from polyprag.cli.arguments import (
    config_option,
    json_option,
    keep_settings,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
    show_result,
)
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo
from polyprag.cli.workers import gpu_pool, is_on_ray, ray_option, task_pool, workers_option
from sharding.counted import counted
from sharding.printable import printable

_WORTH_A_PROCESS = 20_000  # passages that are indexed about while one starts


def faiss_conflict() -> str | None:
    """Returns what to do when faiss-cpu and a GPU build of faiss lie over each other, else None.

    Both fill the folder `faiss`, so the one installed last is used and taking either away breaks
    the other; pip knows no way to say that one replaces the other.
    """
    names = {
        str(distribution.metadata["Name"]).lower()
        for distribution in importlib.metadata.distributions()
    }
    gpu = sorted(name for name in names if name.startswith("faiss-gpu"))
    if "faiss-cpu" not in names or not gpu:
        return None
    return (
        f"faiss-cpu and {gpu[0]} are both installed and overwrite each other; run "
        f"`pip uninstall -y faiss-cpu {gpu[0]}`, then `pip install {gpu[0]}`"
    )


@click.command("index")
@run_argument
@overrides_argument
@click.option("--compact", is_flag=True, help="Join what was added since into one, built anew.")
@workers_option
@ray_option
@config_option
@json_option
def command(
    run: str,
    arguments: tuple[str, ...],
    compact: bool,
    workers: int | None,
    use_ray: bool,
    configs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Build RUN/index: BM25, FAISS and the routing rows.

    The rows come from RUN/encoding; without one the index still serves closed and rag.
    What is new in the corpus is added beside what is there.

    \b
    Examples:
      polyprag index runs/wiki
      polyprag index runs/wiki --compact
      polyprag index s3://bucket/wiki --ray cluster.address=head:6379
      polyprag index runs/wiki index.rows_format=int8
      polyprag index runs/wiki index.encoder=sentence \\
          index.encoder_path=BAAI/bge-small-en-v1.5
      polyprag index runs/wiki --config encoder/e5-base
      polyprag index runs/dpr index.factory=IVF16384,PQ64
    """
    from polyprag.progress import progress
    from polyprag.retrieval.building.index import build_index
    from polyprag.retrieval.encoders.choice import uses_gpu
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import join
    from sharding.storage.urls import absolute

    config = settings_of(run, configs, only_overrides(arguments))
    conflict = faiss_conflict()
    if conflict:
        echo(f"warning: {conflict}", err=True)
    total = CorpusManifest.load(join(run, "corpus")).num_passages
    hold_lease(run, "index")
    notes: list[str] = []
    on_ray = is_on_ray(config.cluster, use_ray)
    with (
        progress(total, "indexing", unit="passages") as advance,
        task_pool(
            config.cluster, workers, on_ray=on_ray, at_most=max(1, total // _WORTH_A_PROCESS)
        ) as pool,
    ):
        manifest = build_index(
            absolute(run) if on_ray else run,
            config,
            advance,
            compact=compact,
            pool=pool,
            encoding_pool=gpu_pool(config.cluster, workers)
            if on_ray and uses_gpu(config)
            else None,
            say=notes.append,
        )
    for note in notes:
        echo(f"note: {printable(note)}", err=True)
    keep_settings(config, run)
    rows = "with their routing rows" if manifest.has_rows else "not encoded yet"
    live = manifest.num_passages - len(manifest.removed)
    segments = len(manifest.segments)
    parts = f", in {segments} segments that --compact would join" if segments > 1 else ""
    waiting = total - manifest.num_passages
    lines = [f"{join(run, 'index')}: {counted(live, 'passage')}, {rows}{parts}"]
    if waiting:
        lines.append(
            f"the corpus's last {waiting:,} passages have no routing rows and aren't in it: go on "
            f"with the `polyprag add` that brought them, or run `polyprag encode {run}`"
        )
    lines.append(f'next: polyprag ask {run} "a question"')
    fields = {
        "index": join(run, "index"),
        "num_passages": live,
        "num_waiting": waiting,
        "num_segments": segments,
        "has_rows": manifest.has_rows,
    }
    show_result(as_json, fields, "\n".join(lines))

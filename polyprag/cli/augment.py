"""`polyprag augment`: rewrites and question-answer pairs for every passage."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from polyprag.cli.arguments import (
    config_option,
    json_option,
    keep_settings,
    only_overrides,
    overrides_argument,
    run_argument,
    settings_of,
)
from polyprag.cli.lease import hold_lease
from polyprag.cli.output import echo, echo_json
from polyprag.cli.workers import is_on_ray, ray_option, workers_option, writing_pool
from sharding.printable import printable

if TYPE_CHECKING:
    from polyprag.augment.pairs.match import Matched
    from polyprag.augment.work.partition import Came
    from polyprag.config import Config

_UNMATCHED_SHOWN = 5


@click.command("augment")
@run_argument
@overrides_argument
@click.option(
    "--qa",
    "qa_files",
    multiple=True,
    metavar="FILE",
    help="Your own question-answer pairs, which join what is written: JSON lines, JSON, CSV or "
    "PRAG's data_aug. A pair names its passage by key, text or title. May be given several times. "
    "RUN keeps them: what is open or written again gets them, too.",
)
@click.option("--overwrite", is_flag=True, help="Write again what is written.")
@click.option(
    "--keep",
    is_flag=True,
    help="Keep what was written with other settings; only what is open is written with these.",
)
@click.option("--report", is_flag=True, help="Write nothing; show what is covered.")
@click.option(
    "--list",
    "show_all",
    is_flag=True,
    help="Write nothing; print every question with its answer and its passage's key, a JSON object "
    "a line, as --qa reads them.",
)
@workers_option
@ray_option
@config_option
@json_option
def command(
    run: str,
    arguments: tuple[str, ...],
    qa_files: tuple[str, ...],
    overwrite: bool,
    keep: bool,
    report: bool,
    show_all: bool,
    workers: int | None,
    use_ray: bool,
    configs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write rewrites and question-answer pairs for each passage.

    They are kept in the partitions of RUN/corpus. augment.backend says who writes them:
    rules (no model), hf (a local causal LM), openai (an OpenAI-compatible endpoint) or none
    (only your own pairs). rules and hf work on any number of workers; with --ray, hf has an
    actor on each GPU of the cluster.

    What comes is kept the moment it comes. Passages for which nothing usable came stay open:
    the command ends with status 75, and run again it asks for those alone.

    \b
    Examples:
      polyprag augment runs/wiki
      polyprag augment runs/wiki --workers 16
      polyprag augment runs/wiki augment.backend=hf \\
          augment.model=meta-llama/Llama-3.2-1B-Instruct
      polyprag augment runs/wiki augment.backend=openai augment.model=my-model \\
          augment.base_url=http://127.0.0.1:8000/v1
      polyprag augment runs/wiki --qa questions.csv augment.backend=none
      polyprag augment runs/wiki --report
      polyprag augment runs/wiki --list | grep -i warranty
    """
    from polyprag.augment.corpus import OpenPassagesError
    from polyprag.augment.work.own_pairs import num_own_pairs
    from polyprag.augment.work.partition import Came

    config = settings_of(run, configs, only_overrides(arguments))
    if report or show_all:
        if qa_files or overwrite or keep:
            option = "--report" if report else "--list"
            raise click.UsageError(f"{option} writes nothing: leave --qa, --overwrite and --keep")
        if report:
            _show(run, None, None, as_json=as_json)
        else:
            _list(run)
        return
    if overwrite and keep:
        raise click.UsageError("--overwrite writes again what --keep keeps: choose one of them")
    hold_lease(run, "augment")
    if overwrite and (number := num_own_pairs(run)):
        echo(f"note: {number:,} own pairs that RUN was given before join what is written", err=True)
    matched = _matched(run, qa_files) if qa_files else None
    came = Came()
    try:
        _augment(
            run, config, matched, came,
            overwrite=overwrite, keep=keep, workers=workers, use_ray=use_ray,
        )  # fmt: skip
    except OpenPassagesError:
        _saved(run, config)
        _show(run, came, matched, as_json=as_json)
        raise
    _saved(run, config)
    _show(run, came, matched, as_json=as_json)


def _augment(
    run: str,
    config: "Config",
    matched: "Matched | None",
    came: "Came",
    *,
    overwrite: bool,
    keep: bool,
    workers: int | None,
    use_ray: bool,
) -> None:
    """Writes, on the workers that the backend can use."""
    from polyprag.augment.corpus import augment_corpus, refuse_what_is_trained
    from polyprag.progress import progress
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import join
    from sharding.storage.urls import absolute

    backend = config.augment.backend
    is_parallel = backend in ("rules", "hf")
    if not is_parallel and (workers or use_ray):
        raise click.UsageError(
            f"augment.backend={backend} works in this process: leave --workers and --ray away, or "
            "choose augment.backend=rules or hf"
        )
    pairs = matched.pairs if matched is not None else {}
    refuse_what_is_trained(run, pairs=pairs, overwrite=overwrite)
    num_passages = CorpusManifest.load(join(run, "corpus")).num_passages
    on_ray = is_parallel and is_on_ray(config.cluster, use_ray)
    with (
        progress(num_passages, "augmenting", unit="passages") as advance,
        writing_pool(
            config.cluster, workers, backend=backend, on_ray=on_ray, num_passages=num_passages
        ) as pool,
    ):
        augment_corpus(
            absolute(run) if on_ray else run,
            config,
            overwrite=overwrite,
            keep=keep,
            pairs=pairs,
            came=came,
            progress=advance,
            pool=pool,
        )


def _saved(run: str, config: "Config") -> None:
    """Keeps the settings in RUN, unless others wrote what there is."""
    from polyprag.augment.settings import describe, differences, recorded_settings
    from sharding.corpus.manifest import CorpusManifest
    from sharding.storage.files import join

    recorded = recorded_settings(CorpusManifest.load(join(run, "corpus")))
    if recorded is None or not differences(recorded, describe(config)):
        keep_settings(config, run)


def _matched(run: str, files: tuple[str, ...]) -> "Matched":
    """Returns own pairs by their passages; those that belong nowhere are named.

    Raises:
        PairsError: a file can't be used, or none of its pairs belongs anywhere.
    """
    from polyprag.augment.pairs.match import match_pairs
    from polyprag.augment.pairs.pair import Pair, PairsError
    from polyprag.augment.pairs.read import read_pairs
    from sharding.corpus.reader import Corpus
    from sharding.storage.files import join

    items = [item for file in files for item in read_pairs(file)]
    pairs = [item for item in items if isinstance(item, Pair)]
    unusable = [item for item in items if not isinstance(item, Pair)]
    for item in unusable[:_UNMATCHED_SHOWN]:
        echo(f"note: {printable(item.where)}: left out: {printable(item.why)}", err=True)
    if unusable:
        reasons = Counter(item.why for item in unusable).most_common()
        told = ", ".join(f"{count:,} x {why}" for why, count in reasons)
        echo(f"note: left out of {len(items):,} items: {printable(told)}", err=True)
    matched = match_pairs(Corpus.open(join(run, "corpus")), pairs)
    if not matched.num_matched:
        first = f" ({matched.unmatched[0][0].where}: {matched.unmatched[0][1]})" if pairs else ""
        raise PairsError(f"{', '.join(files)}: none of {len(pairs):,} pairs has a passage{first}")
    for pair, why in matched.unmatched[:_UNMATCHED_SHOWN]:
        echo(f"note: {printable(pair.where)}: not used: {printable(why)}", err=True)
    more = len(matched.unmatched) - _UNMATCHED_SHOWN
    if more > 0:
        echo(f"note: and {more:,} more pairs that have no passage", err=True)
    return matched


def _list(run: str) -> None:
    """Prints all questions."""
    from sharding.corpus.reader import Corpus
    from sharding.storage.files import join

    for record in Corpus.open(join(run, "corpus")).iterate():
        for qa in record.augmentation.qas if record.augmentation is not None else ():
            echo_json({"key": record.passage.key, "question": qa.question, "answer": qa.answer})


def _show(run: str, came: "Came | None", matched: "Matched | None", *, as_json: bool) -> None:
    from polyprag.augment.report.coverage import coverage_of
    from polyprag.augment.report.text import coverage_fields, coverage_text
    from sharding.corpus.reader import Corpus
    from sharding.storage.files import join

    corpus_dir = join(run, "corpus")
    coverage = coverage_of(Corpus.open(corpus_dir))
    if as_json:
        fields = {"corpus": corpus_dir, "num_without_augmentation": coverage.num_bare}
        if matched is not None:
            fields |= {"own_pairs": matched.num_matched, "own_unmatched": len(matched.unmatched)}
        echo_json(fields | coverage_fields(coverage, came))
        return
    if matched is not None and matched.unmatched:
        total = matched.num_matched + len(matched.unmatched)
        echo(f"your own pairs: {matched.num_matched:,} of {total:,} have a passage")
    echo(coverage_text(run, corpus_dir, coverage, came))

"""`plan` as a whole: reads a run's manifest, model config, sample and metrics, and forecasts."""

from dataclasses import dataclass

from cluster.parallel.deepspeed_config import deepspeed_config
from cluster.plan.capacity import PoolCapacity, pool_capacity
from cluster.plan.feasibility import Limits, improvements, problems
from cluster.plan.forecast import Forecast, forecast
from cluster.plan.measured_speed import WorkerSpeed, measured_speed
from cluster.plan.model_shape import model_shape
from cluster.plan.steps import counted_examples, plan_of
from cluster.plan.token_sample import TokenSample, planned_examples_per_passage, sample_corpus
from polyprag.config import Config, cluster_address
from polyprag.encoding.lanes import empty_lanes
from polyprag.errors import ConfigError, CorpusError, FileError, RunError
from polyprag.method.base_model import load_tokenizer
from polyprag.teaching.manifest import needs_teacher
from polyprag.teaching.part_file import bytes_per_token
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.reader import Corpus
from sharding.counted import counted
from sharding.storage.files import join


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A forecast with what is wrong with it, what would be better, and what it rests on.

    Attributes:
        forecast: the numbers.
        problems: why the run can't work; empty where it can.
        improvements: settings under which workers would idle less.
        notes: what was estimated, left out or assumed.
        capacity: what the experts are to hold; None where nobody knows.
    """

    forecast: Forecast
    problems: list[str]
    improvements: list[str]
    notes: list[str]
    capacity: PoolCapacity | None = None


def plan_run(
    run_dir: str,
    config: Config,
    *,
    tokens_per_second: float | None = None,
    like: str | None = None,
    limits: Limits | None = None,
) -> RunPlan:
    """Forecasts the encoding of a run that has been prepared.

    Args:
        run_dir: with a prepared corpus, augmented or not.
        config: of the run; `cluster.workers` is the number planned for.
        tokens_per_second: of one worker, where it is known.
        like: another run, whose measured rate holds; by default the run's own, where it has one.
        limits: of a worker's memory.

    Raises:
        CorpusError: there is no corpus, or its manifest is damaged.
        ConfigError: the base model's config can't be read, or a setting can't work.
        RunError: the corpus is empty, or `like` has no metrics.
    """
    corpus = Corpus.open(join(run_dir, "corpus"))
    manifest = corpus.manifest
    if not manifest.partitions:
        raise RunError(f"{corpus.directory}: no passages; prepare a corpus with some")
    zero = deepspeed_config(config, world_size=config.cluster.workers)["zero_optimization"]
    shape = model_shape(config)
    notes = [shape.out_of_reach] if shape.out_of_reach is not None else []
    sample = _sample(corpus, config, notes)
    examples, are_estimated = _examples(corpus, config, sample, notes)
    plan = plan_of(examples, config, corpus_url=corpus.directory)
    speed = _speed(run_dir, config, tokens_per_second, like, notes)
    found = forecast(
        manifest,
        config,
        plan,
        shape,
        zero=zero,
        are_estimated=are_estimated,
        sample=sample,
        speed=speed,
    )
    if found.tokens is None:
        most = found.examples.whole * config.data.max_length
        notes.append(
            f"at most {most:,} tokens an epoch, if each example had data.max_length; without their "
            "number there is no time"
        )
    empty = empty_lanes(
        config, num_passages=manifest.num_passages, num_partitions=len(manifest.partitions)
    )
    if empty is not None:
        notes.append(empty)
    if needs_teacher(config, manifest):
        notes.append(_of_the_teacher(manifest, config))
    wrong = problems(
        found,
        manifest,
        config,
        plan,
        shape,
        limits=limits or Limits(),
        local_gpus=_local_gpus(config),
    )
    better = improvements(manifest, plan, workers=config.cluster.workers)
    capacity = None
    if sample is not None:
        capacity = pool_capacity(
            shape,
            num_passages=manifest.num_passages - len(manifest.removed),
            facts_per_passage=sample.facts_per_passage,
        )
    return RunPlan(found, wrong, better, notes, capacity)


def _of_the_teacher(manifest: CorpusManifest, config: Config) -> str:
    """Says what is done before training, in whose time it isn't counted."""
    count = sum(part.counts.get("qa", 0) for part in manifest.partitions)
    per_token = bytes_per_token(config.train.teacher_top_k)
    return (
        f"before training the base model answers {count:,} questions with their passages in its "
        f"prompt (train.objective={config.train.objective}), which the time leaves out: a forward "
        f"pass each, once; RUN/teacher then holds {per_token} bytes for each token of an answer"
    )


def _sample(corpus: Corpus, config: Config, notes: list[str]) -> TokenSample | None:
    try:
        tokenizer = load_tokenizer(config.model)
    except ConfigError as error:
        tokenizer = None
        notes.append(f"no tokens are counted: {error}")
    try:
        return sample_corpus(corpus, config, tokenizer)
    except (CorpusError, FileError) as error:
        notes.append(f"no passages are sampled: {error}")
        return None


def _examples(
    corpus: Corpus, config: Config, sample: TokenSample | None, notes: list[str]
) -> tuple[list[int], bool]:
    """Returns the examples of each partition, and whether some of them are estimated."""
    bare = sum(not part.augmented for part in corpus.manifest.partitions)
    mean = (
        float(planned_examples_per_passage(config))
        if sample is None
        else sample.examples_per_passage
    )
    if bare:
        by = (
            f"{counted(sample.passages, 'sampled passage')} with "
            f"augment.backend={config.augment.backend}"
            if sample is not None
            else "augment.num_rewrites and augment.num_qas, as if all were written"
        )
        notes.append(
            f"{bare:,} of {len(corpus.manifest.partitions):,} partitions aren't augmented yet: "
            f"their examples are estimated at {mean:.2f} a passage, from {by}"
        )
    examples = [
        counted_examples(part, config) if part.augmented else round(mean * part.num_passages)
        for part in corpus.manifest.partitions
    ]
    return examples, bare > 0


def _speed(
    run_dir: str,
    config: Config,
    tokens_per_second: float | None,
    like: str | None,
    notes: list[str],
) -> WorkerSpeed | None:
    if tokens_per_second is not None:
        return WorkerSpeed(tokens_per_second, "as given")
    speed = measured_speed(like or run_dir, config)
    if speed is not None:
        if speed.differences:
            others = "; ".join(speed.differences)
            notes.append(
                f"{like or run_dir} was measured with other settings ({others}): its rate may not "
                "hold here"
            )
        return speed
    if like is not None:
        raise RunError(
            f"{like} has no metrics in its logs: name a run that `polyprag encode` has trained "
            "some steps of, or give --tokens-per-second"
        )
    notes.append(
        "no time is estimated, for want of a measured rate: encode a few hundred passages with "
        "the same settings and hardware and name that run with --like, or give "
        "--tokens-per-second of one worker"
    )
    return None


def _local_gpus(config: Config) -> int | None:
    """This machine's GPUs where the run would start here; None where it wouldn't, or has none.

    A plan made on a machine without any is taken to be for another one.
    """
    if cluster_address(config.cluster) is not None or not config.cluster.gpus_per_worker:
        return None
    import torch

    return torch.cuda.device_count() or None

"""What answers are made with, loaded from a run directory."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polyprag.answering.modes import MIXES, SEARCHES, Mode
from polyprag.answering.trust.abstention import load_if_there
from polyprag.answering.trust.judging import Judge
from polyprag.config import Config
from polyprag.encoding.base import describe_base
from polyprag.encoding.reader import Encoding
from polyprag.method.base_model import load_base
from polyprag.method.experts import ExpertPool, inject
from polyprag.method.support.remembered import check_experts_once
from polyprag.retrieval.search import Index
from polyprag.routed.gates import RoutedGates


class LoadedModel(NamedTuple):
    """A base model, and the experts that were put into it.

    Attributes:
        model: in eval mode.
        tokenizer: the model's.
        pool: None without experts.
        experts_sha256: of the file that they came from; None without experts.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pool: ExpertPool | None = None
    experts_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedParts:
    """What was loaded.

    Attributes:
        base: the model with its experts.
        others: the further arguments of an `Answerer`.
    """

    base: LoadedModel
    others: dict[str, Any]


def load_parts(
    run_dir: str | Path,
    config: Config,
    *,
    modes: Collection[Mode],
    earlier: LoadedModel | None = None,
) -> LoadedParts:
    """Loads what the modes need; see `Answerer.open`.

    Args:
        run_dir: RUN.
        config: `model`, `index`, `data`, `retrieval`, `generation` and `answering` are used.
        modes: what will be asked for.
        earlier: a model that was loaded by the same config, to be used again where its experts
            still are the run's.
    """
    index = None
    if not set(modes).isdisjoint(SEARCHES):
        index = Index.open(
            run_dir,
            gpu=config.index.gpu,
            cache_dir=config.data.cache_dir,
            cache_gb=config.data.cache_gb,
            retrieval=config.retrieval,
        )
    calibration = load_if_there(run_dir) if config.answering.abstain != "never" else None
    if MIXES.isdisjoint(modes):
        base = earlier or LoadedModel(*load_base(config.model))
        return LoadedParts(base, {"index": index, "judge": Judge(config, calibration=calibration)})
    encoding = Encoding.load(run_dir)
    routed = None
    if "routed" in modes:
        routed = RoutedGates.open(run_dir, config, encoding=encoding.manifest)
    if earlier is None or earlier.experts_sha256 != encoding.manifest.experts.sha256:
        earlier = _with_experts(config, encoding)
    return LoadedParts(
        earlier,
        {
            "index": index,
            "pool": earlier.pool,
            "router": encoding.config.router,
            "routed": routed,
            "prompts": config.generation.told_as(encoding.config.generation),
            "skips_prefix": encoding.config.experts.skip_prefix,
            "judge": Judge(config, calibration=calibration, experts_sha256=earlier.experts_sha256),
        },
    )


def _with_experts(config: Config, encoding: Encoding) -> LoadedModel:
    model, tokenizer = load_base(config.model)
    base = describe_base(config.model, tokenizer)
    encoding.check_base_model(base)
    trained = encoding.config
    pool = inject(model, trained.experts, trained.router, seed=trained.train.seed)
    check_experts_once(model, pool, weights=base.weights or base.sha256)
    pool.load_state_dict(encoding.expert_state())
    return LoadedModel(model, tokenizer, pool, encoding.manifest.experts.sha256)

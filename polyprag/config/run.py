"""The settings of a whole run, one section a concern."""

from dataclasses import dataclass, field

from polyprag.config.answering import AnsweringConfig
from polyprag.config.checks import require
from polyprag.config.cluster import ClusterConfig, LogConfig
from polyprag.config.data import AugmentConfig, DataConfig
from polyprag.config.generation import GenerationConfig
from polyprag.config.model import ExpertsConfig, ModelConfig, RouterConfig
from polyprag.config.retrieval import IndexConfig, RetrievalConfig
from polyprag.config.training import AddConfig, CheckpointConfig, DeepSpeedConfig, TrainConfig


@dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    experts: ExpertsConfig = field(default_factory=ExpertsConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    add: AddConfig = field(default_factory=AddConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    log: LogConfig = field(default_factory=LogConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    answering: AnsweringConfig = field(default_factory=AnsweringConfig)

    def __post_init__(self) -> None:
        require(
            self.router.top_k <= self.experts.num,
            "router.top_k",
            self.router.top_k,
            f"at most experts.num={self.experts.num}",
        )
        require(
            self.cluster.workers <= self.data.lanes,
            "cluster.workers",
            self.cluster.workers,
            f"at most data.lanes={self.data.lanes}, as every worker needs a lane: use fewer "
            "workers, or more lanes (chosen before the first checkpoint)",
        )
        require(
            not self.train.exact or (self.deepspeed.stage < 3 and self.deepspeed.config is None),
            "train.exact",
            self.train.exact,
            "false with deepspeed.stage=3 or deepspeed.config: exact training keeps the experts "
            "whole on every worker and takes no DeepSpeed; set deepspeed.stage=1 and no config",
        )
        require(
            not self.experts.skip_prefix or self.train.packing,
            "experts.skip_prefix",
            self.experts.skip_prefix,
            "false with train.packing=false: rows that are packed go on from the prefix, padded "
            "ones don't",
        )

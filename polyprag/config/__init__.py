"""Every setting of a run: one frozen dataclass per concern, checked when it is made."""

from polyprag.config.answering import AnsweringConfig
from polyprag.config.cluster import ClusterConfig, LogConfig, cluster_address
from polyprag.config.data import AugmentConfig, DataConfig
from polyprag.config.generation import GenerationConfig
from polyprag.config.model import ExpertsConfig, ModelConfig, RouterConfig
from polyprag.config.retrieval import IndexConfig, RetrievalConfig
from polyprag.config.run import Config
from polyprag.config.training import AddConfig, CheckpointConfig, DeepSpeedConfig, TrainConfig

__all__ = [
    "AddConfig",
    "AnsweringConfig",
    "AugmentConfig",
    "CheckpointConfig",
    "ClusterConfig",
    "Config",
    "DataConfig",
    "DeepSpeedConfig",
    "ExpertsConfig",
    "GenerationConfig",
    "IndexConfig",
    "LogConfig",
    "ModelConfig",
    "RetrievalConfig",
    "RouterConfig",
    "TrainConfig",
    "cluster_address",
]

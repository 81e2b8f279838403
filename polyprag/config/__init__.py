"""Every setting of a run: one dataclass per concern, checked when it is made."""

from polyprag.config.settings import (
    AddConfig,
    AugmentConfig,
    CheckpointConfig,
    ClusterConfig,
    Config,
    DataConfig,
    DeepSpeedConfig,
    ExpertsConfig,
    GenerationConfig,
    IndexConfig,
    LogConfig,
    ModelConfig,
    RetrievalConfig,
    RouterConfig,
    TrainConfig,
    cluster_address,
)

__all__ = [
    "AddConfig",
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

"""Every setting of a run: one dataclass per concern, checked when it is made.

Merging (defaults < YAML < key=value) is `polyprag.config.files`.
"""

import os
import re
from dataclasses import dataclass, field

from polyprag.errors import ConfigError


def _require(ok: bool, key: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"{key}={value!r} can't be used: it must be {allowed}")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, key, value, "one of " + ", ".join(allowed))


@dataclass
class ModelConfig:
    """The frozen base model, loaded by `AutoModelForCausalLM.from_pretrained`."""

    path: str = "examples/tiny-base"  # a directory or a hub name
    revision: str | None = None
    dtype: str = "auto"  # auto: fp32 on CPU, bf16 on GPU

    def __post_init__(self) -> None:
        _require(bool(self.path), "model.path", self.path, "a directory or a hub name")
        _one_of("model.dtype", self.dtype, ("auto", "fp32", "bf16"))


@dataclass
class DataConfig:
    """How passages become partitions, lanes and microbatches."""

    partition_size: int = 256  # passages in a partition (one tar shard)
    lanes: int = 8  # canonical slots of the global batch; bounds the number of workers
    microbatch: int = 4  # examples that a lane adds to one global step
    max_length: int = 512  # tokens; longer examples lose the end of their passage
    prefetch: int = 2  # microbatches that a lane reads ahead
    cache_dir: str | None = None  # what is read of a remote run; none: ~/.cache/polyprag
    cache_gb: float = 20.0  # all that is kept there, unless it is in use; 0 keeps nothing
    # What a passage is trained with: passage_qa (each text with each question), qa (each question
    # alone), passage (each text alone). A passage without questions comes as its texts in any case.
    formats: list[str] = field(default_factory=lambda: ["passage_qa", "qa"])

    def __post_init__(self) -> None:
        _require(bool(self.formats), "data.formats", self.formats, "a list of one or more formats")
        for name in self.formats:
            _one_of("data.formats", name, ("passage_qa", "qa", "passage"))
        for key in ("partition_size", "lanes", "microbatch", "prefetch"):
            _require(getattr(self, key) >= 1, f"data.{key}", getattr(self, key), "at least 1")
        _require(self.cache_gb >= 0, "data.cache_gb", self.cache_gb, "0 (no cache) or more")
        _require(self.max_length >= 16, "data.max_length", self.max_length, "at least 16 tokens")


@dataclass
class AugmentConfig:
    """Who writes the rewrites and question-answer pairs, and how many (PRAG: 1 and 3)."""

    backend: str = "rules"  # rules | hf | openai
    num_rewrites: int = 1
    num_qas: int = 3
    model: str | None = None  # hf: path or hub name (default model.path); openai: model name
    base_url: str | None = None  # openai: endpoint
    api_key_env: str = "OPENAI_API_KEY"
    batch_size: int = 8
    max_new_tokens: int = 512
    max_retries: int = 3
    temperature: float = 0.7

    def __post_init__(self) -> None:
        _one_of("augment.backend", self.backend, ("rules", "hf", "openai"))
        for key in ("num_rewrites", "num_qas", "max_retries"):
            _require(getattr(self, key) >= 0, f"augment.{key}", getattr(self, key), "0 or more")
        for key in ("batch_size", "max_new_tokens"):
            _require(getattr(self, key) >= 1, f"augment.{key}", getattr(self, key), "at least 1")
        _require(self.temperature >= 0, "augment.temperature", self.temperature, "0 or more")


@dataclass
class ExpertsConfig:
    """The pool of K LoRA experts on each targeted Linear."""

    num: int = 16
    rank: int = 2
    alpha: float = 32.0  # the scale is alpha / rank
    targets: list[str] = field(default_factory=lambda: ["gate_proj", "up_proj", "down_proj"])

    def __post_init__(self) -> None:
        for key in ("num", "rank"):
            _require(getattr(self, key) >= 1, f"experts.{key}", getattr(self, key), "at least 1")
        _require(self.alpha > 0, "experts.alpha", self.alpha, "above 0")
        _require(bool(self.targets), "experts.targets", self.targets, "a list of module names")


@dataclass
class RouterConfig:
    """What a routing row is and how it becomes gates."""

    granularity: str = "module"  # model | layer | module: how many sites a row has
    gate: str = "linear"  # linear | tanh | softmax | sigmoid
    top_k: int = 0  # experts kept per site; 0 keeps all
    init_std: float = 1.0  # rows are drawn from N(0, init_std^2)
    relaxed_bernoulli: bool = False  # sample sigmoid gates while training
    temperature: float = 1.0  # of the RelaxedBernoulli

    def __post_init__(self) -> None:
        _one_of("router.granularity", self.granularity, ("model", "layer", "module"))
        _one_of("router.gate", self.gate, ("linear", "tanh", "softmax", "sigmoid"))
        _require(self.top_k >= 0, "router.top_k", self.top_k, "0 (all experts) or more")
        _require(self.init_std >= 0, "router.init_std", self.init_std, "0 or more")
        _require(self.temperature > 0, "router.temperature", self.temperature, "above 0")
        _require(
            not self.relaxed_bernoulli or self.gate == "sigmoid",
            "router.relaxed_bernoulli",
            self.relaxed_bernoulli,
            "false unless router.gate=sigmoid",
        )


@dataclass
class TrainConfig:
    """The joint optimisation of experts and routing rows."""

    epochs: int = 4
    seed: int = 0
    experts_lr: float = 5e-3
    rows_lr: float = 0.1
    weight_decay: float = 0.0  # on the experts; rows have none
    beta1: float = 0.9
    beta2: float = 0.999
    grad_clip: float = 1.0  # global norm over the experts; 0 turns it off
    rows_grad_clip: float = 0.0  # norm of each row's gradient; 0 turns it off
    rows_second_moment: str = "element"  # element | site | row: what shares one of Adam's
    schedule: str = "constant"  # constant | linear | cosine
    warmup_ratio: float = 0.0
    loss_on: str = "all"  # all | answer
    max_tokens: int = 8192  # of one physical batch, padding included

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "train.epochs", self.epochs, "at least 1")
        for key in ("experts_lr", "rows_lr", "weight_decay", "grad_clip", "rows_grad_clip"):
            _require(getattr(self, key) >= 0, f"train.{key}", getattr(self, key), "0 or more")
        for key in ("beta1", "beta2", "warmup_ratio"):
            _require(0 <= getattr(self, key) < 1, f"train.{key}", getattr(self, key), "in [0, 1)")
        _one_of("train.rows_second_moment", self.rows_second_moment, ("element", "site", "row"))
        _one_of("train.schedule", self.schedule, ("constant", "linear", "cosine"))
        _one_of("train.loss_on", self.loss_on, ("all", "answer"))
        _require(self.max_tokens >= 16, "train.max_tokens", self.max_tokens, "at least 16")


@dataclass
class AddConfig:
    """How the routing rows of added passages are trained; the experts are frozen."""

    init: str = "zeros"  # zeros | neighbours (mean of their rows) | random: where rows start
    num_neighbours: int = 5  # neighbours: passages whose rows are averaged
    steps: int = 96  # updates of each row
    examples_per_step: int = 1  # of each passage in one update
    rows_lr: float = 0.3  # falls linearly to 0

    def __post_init__(self) -> None:
        _one_of("add.init", self.init, ("zeros", "neighbours", "random"))
        for key in ("num_neighbours", "steps", "examples_per_step"):
            _require(getattr(self, key) >= 1, f"add.{key}", getattr(self, key), "at least 1")
        _require(self.rows_lr > 0, "add.rows_lr", self.rows_lr, "above 0")


@dataclass
class CheckpointConfig:
    """How often training state is made durable."""

    every_steps: int = 500

    def __post_init__(self) -> None:
        _require(self.every_steps >= 1, "checkpoint.every_steps", self.every_steps, "at least 1")


@dataclass
class DeepSpeedConfig:
    """ZeRO over the experts (and, at stage 3, the frozen base)."""

    stage: int = 2
    config: str | None = None  # a YAML file of further DeepSpeed keys, merged over ours

    def __post_init__(self) -> None:
        _require(self.stage in (1, 2, 3), "deepspeed.stage", self.stage, "1, 2 or 3")


@dataclass
class ClusterConfig:
    """Where and on how many workers encoding runs."""

    workers: int = 2  # the most, where min_workers is set
    min_workers: int | None = None  # elastic: goes on with as few; none: exactly `workers`
    resize_seconds: float = 60.0  # elastic: how often room for more workers is looked for
    address: str | None = None  # of a running Ray cluster; none starts a local one
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    max_failures: int = 3  # restarts of the worker group before the run gives up
    grace_seconds: float = 60.0  # at most, for a checkpoint before workers are ended or moved
    stall_seconds: float = 1800.0  # without a step a worker is ended and started again; 0: never

    def __post_init__(self) -> None:
        for key in ("workers", "cpus_per_worker"):
            _require(getattr(self, key) >= 1, f"cluster.{key}", getattr(self, key), "at least 1")
        _require(
            self.min_workers is None or 1 <= self.min_workers <= self.workers,
            "cluster.min_workers",
            self.min_workers,
            f"null, or from 1 to cluster.workers={self.workers}",
        )
        for key in ("resize_seconds", "grace_seconds"):
            _require(getattr(self, key) >= 0, f"cluster.{key}", getattr(self, key), "0 or more")
        _require(
            self.gpus_per_worker >= 0, "cluster.gpus_per_worker", self.gpus_per_worker, "0 or more"
        )
        _require(
            self.max_failures >= -1, "cluster.max_failures", self.max_failures, "-1 (any) or more"
        )
        _require(self.stall_seconds >= 0, "cluster.stall_seconds", self.stall_seconds, "0 or more")


def cluster_address(config: ClusterConfig) -> str | None:
    """Returns where to join a cluster: `cluster.address`, else RAY_ADDRESS as a Ray job sets it."""
    return config.address or os.environ.get("RAY_ADDRESS") or None


@dataclass
class LogConfig:
    """What an operator sees: the workers' logs, and where each step's metrics go."""

    format: str = "text"  # text | json: of the lines in logs/worker-*.log
    # Besides logs/metrics.jsonl: tensorboard, wandb (Weights & Biases), mlflow.
    sinks: list[str] = field(default_factory=lambda: ["tensorboard"])
    wandb_project: str = "polyprag"
    wandb_entity: str | None = None  # a user or team; none: the API key's own
    mlflow_uri: str | None = None  # of the tracking server; none: MLFLOW_TRACKING_URI
    mlflow_experiment: str = "polyprag"

    def __post_init__(self) -> None:
        _one_of("log.format", self.format, ("text", "json"))
        for name in self.sinks:
            _one_of("log.sinks", name, ("tensorboard", "wandb", "mlflow"))
        for key in ("wandb_project", "mlflow_experiment"):
            _require(bool(getattr(self, key)), f"log.{key}", getattr(self, key), "a name")
        # It is saved in the run's config.yaml, for everybody who reads the run.
        _require(
            "@" not in (self.mlflow_uri or ""),
            "log.mlflow_uri",
            "...@...",
            "without a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )


@dataclass
class IndexConfig:
    """What `polyprag index` builds."""

    # lsa | base (the run's model) | sentence (sentence-transformers) | transformers | openai
    encoder: str = "lsa"
    encoder_path: str | None = None  # a directory or a hub name; openai: model name
    query_encoder_path: str | None = None  # transformers: another model for queries, as DPR has
    pooling: str = "mean"  # base, transformers: mean | cls | last | pooler, as it was trained
    normalize: bool = True  # vectors of length 1, so that inner products are cosines
    max_tokens: int = 512  # base, transformers: of a text; the rest isn't read
    query_prefix: str = ""
    passage_prefix: str = ""
    passage_pair: bool = False  # transformers: title and text as a pair, [SEP] between, as DPR
    base_url: str | None = None  # openai: endpoint
    api_key_env: str = "OPENAI_API_KEY"
    lsa_dims: int = 256
    lsa_sketch: float = 0.9  # share of them that are random projections: keeps rare names apart
    factory: str = "auto"  # by the number of passages, or a FAISS factory string
    gpu: str = "auto"  # auto | never
    batch_size: int = 64
    language: str = "english"  # stemmer and stop words of BM25 and LSA; none: neither
    bm25_k1: float = 0.9
    bm25_b: float = 0.4
    bm25_title_weight: int = 2  # how often a title's words count
    rows_format: str = "fp16"  # of the rows beside it: fp16 | int8 (with one scale a row)

    def __post_init__(self) -> None:
        _one_of(
            "index.encoder", self.encoder, ("lsa", "base", "sentence", "transformers", "openai")
        )
        _one_of("index.pooling", self.pooling, ("mean", "cls", "last", "pooler"))
        _one_of("index.gpu", self.gpu, ("auto", "never"))
        _one_of("index.rows_format", self.rows_format, ("fp16", "int8"))
        _require(
            self.encoder in ("lsa", "base") or bool(self.encoder_path),
            "index.encoder_path",
            self.encoder_path,
            "the endpoint's name of a model when index.encoder=openai"
            if self.encoder == "openai"
            else f"a model's directory or hub name when index.encoder={self.encoder}",
        )
        _require(
            self.query_encoder_path is None
            or (self.encoder == "transformers" and bool(self.query_encoder_path)),
            "index.query_encoder_path",
            self.query_encoder_path,
            "null, or a directory or hub name when index.encoder=transformers",
        )
        _require(
            self.normalize or self.encoder != "lsa",
            "index.normalize",
            self.normalize,
            "true when index.encoder=lsa",
        )
        _require(
            not self.passage_pair or self.encoder == "transformers",
            "index.passage_pair",
            self.passage_pair,
            "false unless index.encoder=transformers",
        )
        _require(
            self.base_url is None or self.base_url.startswith(("http://", "https://")),
            "index.base_url",
            self.base_url,
            "null, or a URL that starts with http:// or https://",
        )
        # Both are saved in the run's config.yaml, for everybody who reads the run.
        _require(
            "@" not in (self.base_url or ""),
            "index.base_url",
            "...@...",
            "without a password: set the variable that index.api_key_env names",
        )
        _require(
            re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env) is not None,
            "index.api_key_env",
            "...",
            "the name of an environment variable, not the key itself",
        )
        _require(self.max_tokens >= 16, "index.max_tokens", self.max_tokens, "at least 16")
        for key in ("lsa_dims", "batch_size", "bm25_title_weight"):
            _require(getattr(self, key) >= 1, f"index.{key}", getattr(self, key), "at least 1")
        _require(0 <= self.lsa_sketch < 1, "index.lsa_sketch", self.lsa_sketch, "in [0, 1)")
        _require(self.bm25_k1 >= 0, "index.bm25_k1", self.bm25_k1, "0 or more")
        _require(0 <= self.bm25_b <= 1, "index.bm25_b", self.bm25_b, "in [0, 1]")


@dataclass
class RetrievalConfig:
    """How passages are found and their rows combined into one mixture."""

    method: str = "bm25"  # bm25 | dense | hybrid (both, fused)
    fusion: str = "weighted"  # of hybrid: weighted (normalised scores) | rrf (reciprocal ranks)
    dense_weight: float = 0.3  # weighted: share of the dense score, BM25 has the rest
    reranker: str | None = None  # a cross-encoder, a directory or a hub name; none: no reranking
    rerank_depth: int = 50  # hits that it reads; at least top_k
    rerank_batch: int = 32  # pairs of a question and a passage in one forward pass
    nprobe: int = 0  # lists that a search of an inverted file reads; 0: see docs/retrieval.md
    refine: int = 10  # candidates a hit that are scored again, where a FAISS index is lossy
    top_k: int = 3
    mixture: str = "softmax"  # softmax (of the scores) | mean | sum
    temperature: float = 1.0  # of the score softmax

    def __post_init__(self) -> None:
        _one_of("retrieval.method", self.method, ("bm25", "dense", "hybrid"))
        _one_of("retrieval.fusion", self.fusion, ("rrf", "weighted"))
        _one_of("retrieval.mixture", self.mixture, ("softmax", "mean", "sum"))
        _require(
            0 <= self.dense_weight <= 1, "retrieval.dense_weight", self.dense_weight, "in [0, 1]"
        )
        _require(
            self.reranker is None or bool(self.reranker),
            "retrieval.reranker",
            self.reranker,
            "null, or a directory or a hub name of a cross-encoder",
        )
        for key in ("rerank_depth", "rerank_batch", "top_k"):
            _require(getattr(self, key) >= 1, f"retrieval.{key}", getattr(self, key), "at least 1")
        for key in ("nprobe", "refine"):
            _require(getattr(self, key) >= 0, f"retrieval.{key}", getattr(self, key), "0 or more")
        _require(self.temperature > 0, "retrieval.temperature", self.temperature, "above 0")


@dataclass
class GenerationConfig:
    """How answers are decoded (greedy)."""

    max_new_tokens: int = 32
    batch_size: int = 32
    prompt: str = "auto"  # auto | plain | chat; auto: chat where the tokenizer has a template

    def __post_init__(self) -> None:
        for key in ("max_new_tokens", "batch_size"):
            _require(getattr(self, key) >= 1, f"generation.{key}", getattr(self, key), "at least 1")
        _one_of("generation.prompt", self.prompt, ("auto", "plain", "chat"))


@dataclass
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

    def __post_init__(self) -> None:
        _require(
            self.router.top_k <= self.experts.num,
            "router.top_k",
            self.router.top_k,
            f"at most experts.num={self.experts.num}",
        )
        _require(
            self.cluster.workers <= self.data.lanes,
            "cluster.workers",
            self.cluster.workers,
            f"at most data.lanes={self.data.lanes}, as every worker needs a lane: use fewer "
            "workers, or more lanes (chosen before the first checkpoint)",
        )

"""What the index is made of, and how passages are found in it and mixed."""

import re
from dataclasses import dataclass

from polyprag.config.checks import one_of, require, require_at_least_one, require_none_negative


@dataclass(frozen=True)
class IndexConfig:
    """What `polyprag index` builds."""

    # lsa | base (the run's model) | sentence (sentence-transformers) | transformers | openai
    encoder: str = "lsa"
    encoder_path: str | None = None  # a directory or a hub name; openai: model name
    query_encoder_path: str | None = None  # transformers: another model for queries, as DPR has
    pooling: str = "mean"  # base, transformers: mean | cls | last | pooler, as it was trained
    normalize: bool = True  # vectors of length 1, so that inner products are cosines
    max_tokens: int = 512  # of a text; the rest isn't read (openai: of one that is refused)
    model_prompts: bool = True  # sentence: the model's own prompts where a prefix is empty
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
        one_of("index.encoder", self.encoder, ("lsa", "base", "sentence", "transformers", "openai"))
        one_of("index.pooling", self.pooling, ("mean", "cls", "last", "pooler"))
        one_of("index.gpu", self.gpu, ("auto", "never"))
        one_of("index.rows_format", self.rows_format, ("fp16", "int8"))
        require(
            self.encoder in ("lsa", "base") or bool(self.encoder_path),
            "index.encoder_path",
            self.encoder_path,
            "the endpoint's name of a model when index.encoder=openai"
            if self.encoder == "openai"
            else f"a model's directory or hub name when index.encoder={self.encoder}",
        )
        require(
            self.query_encoder_path is None
            or (self.encoder == "transformers" and bool(self.query_encoder_path)),
            "index.query_encoder_path",
            self.query_encoder_path,
            "null, or a directory or hub name when index.encoder=transformers",
        )
        require(
            self.normalize or self.encoder != "lsa",
            "index.normalize",
            self.normalize,
            "true when index.encoder=lsa",
        )
        require(
            not self.passage_pair or self.encoder == "transformers",
            "index.passage_pair",
            self.passage_pair,
            "false unless index.encoder=transformers",
        )
        require(
            self.base_url is None or self.base_url.startswith(("http://", "https://")),
            "index.base_url",
            self.base_url,
            "null, or a URL that starts with http:// or https://",
        )
        # Both are saved in the run's config.yaml, for everybody who reads the run.
        require(
            "@" not in (self.base_url or ""),
            "index.base_url",
            "...@...",
            "without a password: set the variable that index.api_key_env names",
        )
        require(
            re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env) is not None,
            "index.api_key_env",
            "...",
            "the name of an environment variable, not the key itself",
        )
        require(self.max_tokens >= 16, "index.max_tokens", self.max_tokens, "at least 16")
        require_at_least_one(self, "index", "lsa_dims", "batch_size", "bm25_title_weight")
        require(0 <= self.lsa_sketch < 1, "index.lsa_sketch", self.lsa_sketch, "in [0, 1)")
        require(self.bm25_k1 >= 0, "index.bm25_k1", self.bm25_k1, "0 or more")
        require(0 <= self.bm25_b <= 1, "index.bm25_b", self.bm25_b, "in [0, 1]")


@dataclass(frozen=True)
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
        one_of("retrieval.method", self.method, ("bm25", "dense", "hybrid"))
        one_of("retrieval.fusion", self.fusion, ("rrf", "weighted"))
        one_of("retrieval.mixture", self.mixture, ("softmax", "mean", "sum"))
        require(
            0 <= self.dense_weight <= 1, "retrieval.dense_weight", self.dense_weight, "in [0, 1]"
        )
        require(
            self.reranker is None or bool(self.reranker),
            "retrieval.reranker",
            self.reranker,
            "null, or a directory or a hub name of a cross-encoder",
        )
        require_at_least_one(self, "retrieval", "rerank_depth", "rerank_batch", "top_k")
        require_none_negative(self, "retrieval", "nprobe", "refine")
        require(self.temperature > 0, "retrieval.temperature", self.temperature, "above 0")

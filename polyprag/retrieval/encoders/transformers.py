"""The vectors of any encoder that transformers ships: E5, BGE, Contriever, DPR and their like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from polyprag.errors import ConfigError
from polyprag.pretrained import LOAD_ERRORS, load_model, source_of
from polyprag.retrieval.encoders.interface import passage_text
from polyprag.retrieval.encoders.pooled_model import PooledModel, Pooling


class TransformersEncoder:
    """A model of passages and queries, or one of each (DPR, arXiv:2004.04906)."""

    cut: Sequence[int] = ()  # what is longer than index.max_tokens isn't refused

    def __init__(
        self,
        passages: PooledModel,
        queries: PooledModel,
        *,
        query_prefix: str,
        passage_prefix: str,
        passage_pair: bool,
    ) -> None:
        """Puts loaded models together; `open` loads them.

        Args:
            passages: of passages.
            queries: of queries; the same one, or one with vectors as long.
            query_prefix: put before each query.
            passage_prefix: put before each passage's title.
            passage_pair: whether title and text are a pair of texts ([SEP] between), or one text.
        """
        self._passages, self._queries = passages, queries
        self._query_prefix, self._passage_prefix = query_prefix, passage_prefix
        self._passage_pair = passage_pair

    @classmethod
    def open(
        cls,
        path: str,
        *,
        pooling: Pooling,
        query_path: str | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        passage_pair: bool = False,
        gpu: str = "auto",
    ) -> Self:
        """Loads the model or models; safetensors weights and known code only.

        Args:
            path: a directory or a hub name, of the model of passages (and queries).
            pooling: of both models.
            query_path: of another model for queries; None: the same.
            query_prefix: see `__init__`.
            passage_prefix: see `__init__`.
            passage_pair: see `__init__`.
            gpu: `auto` puts them on the current GPU where there is one, in bf16; `never` doesn't.

        Raises:
            ConfigError: a model can't be loaded or has no such output, or the vectors of the two
                aren't of one length.
        """
        passages = _load(path, pooling, key="index.encoder_path", gpu=gpu)
        queries = passages
        if query_path is not None:
            queries = _load(query_path, pooling, key="index.query_encoder_path", gpu=gpu)
        if queries.dims != passages.dims:
            raise ConfigError(
                f"index.query_encoder_path={query_path!r} can't be used: its vectors have "
                f"{queries.dims} numbers, those of index.encoder_path={path!r} {passages.dims}; "
                "take two models that were trained together"
            )
        return cls(
            passages,
            queries,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            passage_pair=passage_pair,
        )

    @property
    def dims(self) -> int:
        """D, the length of the vectors."""
        return self._passages.dims

    def encode_passages(self, titled_texts: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Vectors (n, D) of pairs of title and text."""
        prefix = self._passage_prefix
        if self._passage_pair:
            titles = [prefix + title for title, _ in titled_texts]
            return self._passages.encode(titles, [text for _, text in titled_texts])
        return self._passages.encode(
            [passage_text(title, text, prefix=prefix) for title, text in titled_texts]
        )

    def encode_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, D)."""
        return self._queries.encode([self._query_prefix + query for query in queries])


def _load(path: str, pooling: Pooling, *, key: str, gpu: str) -> PooledModel:
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer, DPRContextEncoder

    where = f"{key}={path!r}"
    source = source_of(path)
    on_gpu = gpu == "auto" and torch.cuda.is_available()
    try:
        config: Any = AutoConfig.from_pretrained(path, **source)
        if config.is_encoder_decoder:
            raise ConfigError(
                f"{where} can't be used: it is an encoder with a decoder; take "
                "index.encoder=sentence if sentence-transformers can load it"
            )
        # AutoModel would make a question encoder of either of DPR's two, with random weights.
        is_context = "DPRContextEncoder" in (config.architectures or ())
        kind: Any = DPRContextEncoder if is_context else AutoModel
        tokenizer: Any = AutoTokenizer.from_pretrained(path, **source)
        dtype = torch.bfloat16 if on_gpu else torch.float32
        model, bad = load_model(kind, path, config=config, dtype=dtype)
    except LOAD_ERRORS as error:
        raise _cannot_load(where, path, error) from error
    _check_weights(where, bad, pooling=pooling.kind)
    return PooledModel(
        model.to("cuda" if on_gpu else "cpu").eval(), tokenizer, pooling, where=where
    )


def _check_weights(where: str, bad: list[str], *, pooling: str) -> None:
    """Refuses a model that lacks weights; BERT's pooler may be missing where it isn't used."""
    names = [name for name in bad if pooling == "pooler" or "pooler" not in name.split(".")]
    if names:
        raise ConfigError(
            f"{where} can't be used: {len(names)} of its weights are missing or of another shape "
            f"than config.json says, such as {names[0]!r}; check that index.pooling={pooling} is "
            "how the model was trained, and copy it again, config.json and all of its "
            ".safetensors files"
        )


def _cannot_load(where: str, path: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:300]
    remedy = (
        "it must be a directory with config.json, the tokenizer's files and weights as "
        ".safetensors, or a hub name and the hub reachable, of a model that transformers ships. "
        "Where there is a pytorch_model.bin only, which may hold any code, convert it once if you "
        "trust it: load it with transformers, and save model and tokenizer by save_pretrained "
        "to a directory"
    )
    if (Path(path) / "pytorch_model.bin").is_file():
        remedy = (
            "its pytorch_model.bin may hold any code; if you trust it, convert it once: load it "
            "with transformers, and save model and tokenizer by save_pretrained to a directory, "
            "which writes .safetensors"
        )
    return ConfigError(f"{where} can't be loaded: {remedy} [{reason}]")

"""An encoder as it is kept with an index, in encoder.json, and how it is made again of that."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from polyprag.config import IndexConfig, ModelConfig
from polyprag.errors import ConfigError, FileError, RunError
from polyprag.retrieval.encoders.interface import Encoder, PrefixedEncoder
from polyprag.retrieval.encoders.lsa import LsaEncoder
from polyprag.retrieval.encoders.model_files import check_fitted_weights, check_sentence_files
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.files import join, read_json

ENCODER_FILE = "encoder.json"


@dataclass(frozen=True, kw_only=True)
class SavedEncoder:
    """The contents of encoder.json.

    Attributes:
        index: the settings of the encoder, the others at their defaults.
        model: of `base`.
        fitted: what else the kind needs: `lsa` the settings of its files, `openai` the dims, models
            on this machine what tells their weights from others.
    """

    index: IndexConfig
    model: ModelConfig | None = None
    fitted: dict[str, Any] = field(default_factory=dict)


def read_saved(directory: str | Path) -> SavedEncoder:
    """Reads encoder.json in an encoder's directory, a path or URL.

    Raises:
        RunError: it is damaged, or of another version.
    """
    path = join(directory, ENCODER_FILE)
    try:
        values = read_json(path)
        if isinstance(values, dict) and isinstance(values.get("index"), dict):
            # Earlier versions encoded passages without the model's own prompts.
            values["index"].setdefault("model_prompts", False)
        return msgspec.convert(values, SavedEncoder)
    except (OSError, FileError, ConfigError, msgspec.ValidationError) as error:
        raise RunError(f"{path}: damaged or of another version ({error}); {REMEDY}") from error


def open_saved(saved: SavedEncoder, directory: Path, *, gpu: str) -> Encoder:
    """Returns the encoder of a description and the files beside it."""
    index = saved.index
    where = str(directory / ENCODER_FILE)
    check_fitted_weights(saved.fitted, index, saved.model, where=where)
    prefixes = {"query_prefix": index.query_prefix, "passage_prefix": index.passage_prefix}
    path = index.encoder_path or ""
    if index.encoder == "lsa":
        return PrefixedEncoder(LsaEncoder.load(directory, saved.fitted), **prefixes)
    if index.encoder == "sentence":
        from polyprag.retrieval.encoders.sentence import SentenceEncoder

        check_sentence_files(path)
        return SentenceEncoder(
            path,
            batch_size=index.batch_size,
            normalize=index.normalize,
            model_prompts=index.model_prompts,
            gpu=gpu,
            **prefixes,
        )
    if index.encoder == "openai":
        from polyprag.retrieval.encoders.openai import OpenAIEncoder

        return PrefixedEncoder(
            OpenAIEncoder(
                path,
                base_url=index.base_url,
                api_key_env=index.api_key_env,
                batch_size=index.batch_size,
                normalize=index.normalize,
                max_tokens=index.max_tokens,
                dims=saved_dims(saved, directory),
            ),
            **prefixes,
        )
    from polyprag.retrieval.encoders.pooled_model import PooledModel, Pooling

    pooling = Pooling(
        kind=index.pooling,
        normalize=index.normalize,
        max_tokens=index.max_tokens,
        batch_size=index.batch_size,
    )
    if index.encoder == "transformers":
        from polyprag.retrieval.encoders.transformers import TransformersEncoder

        return TransformersEncoder.open(
            path,
            pooling=pooling,
            query_path=index.query_encoder_path,
            passage_pair=index.passage_pair,
            gpu=gpu,
            **prefixes,
        )
    from polyprag.method.base_model import load_base

    if saved.model is None:
        raise RunError(f"{directory / ENCODER_FILE}: names no base model; {REMEDY}")
    base: Any  # whose `base_model` transformers types as any torch module
    base, tokenizer = load_base(saved.model, device="cpu" if gpu == "never" else None)
    where = f"model.path={saved.model.path!r}"
    return PrefixedEncoder(
        PooledModel(base.base_model, tokenizer, pooling, where=where), **prefixes
    )


def saved_dims(saved: SavedEncoder, directory: Path) -> int | None:
    """Returns the length of the vectors where it was kept, as of an endpoint.

    Raises:
        RunError: it can't be one.
    """
    dims = saved.fitted.get("dims")
    if dims is not None and (not isinstance(dims, int) or dims < 1):
        raise RunError(f"{directory / ENCODER_FILE}: vectors of {dims!r} numbers; {REMEDY}")
    return dims

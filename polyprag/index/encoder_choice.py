"""Which encoder makes the vectors, and how it is kept with the index."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from polyprag.config import Config, ModelConfig
from polyprag.index.analysis import Analyzer
from polyprag.index.encoders import BaseModelEncoder, Encoder, SentenceEncoder
from polyprag.index.lsa import LsaEncoder
from sharding.files import read_json, write_json

_SETTINGS = "encoder.json"


class _Prefixed:
    def __init__(self, encoder, query_prefix, passage_prefix):
        self._e, self._q, self._p = encoder, query_prefix, passage_prefix

    @property
    def dims(self):
        return self._e.dims

    def encode_passages(self, titled_texts):
        return self._e.encode([f"{self._p}{t}\n{x}" for t, x in titled_texts])

    def encode_queries(self, queries):
        return self._e.encode([self._q + q for q in queries])


def encoder_settings(config: Config) -> dict[str, Any]:
    index = config.index
    s = {"encoder": index.encoder, "prefixes": [index.query_prefix, index.passage_prefix]}
    if index.encoder == "lsa":
        return s | {"dims": [index.lsa_dims, index.lsa_sketch], "language": index.language}
    if index.encoder == "sentence":
        return s | {"path": index.encoder_path}
    return s | {"path": config.model.path, "revision": config.model.revision}


def needs_sample(config: Config) -> bool:
    return config.index.encoder == "lsa"


def uses_gpu(config: Config) -> bool:
    return config.index.encoder != "lsa"


def fit_encoder(directory: Path, sample: Iterable[tuple[str, str]], config: Config) -> Encoder:
    settings = config.index
    if settings.encoder == "lsa":
        lsa = LsaEncoder.fit(
            (f"{settings.passage_prefix}{t}\n{x}" for t, x in sample),
            dims=settings.lsa_dims,
            sketch=settings.lsa_sketch,
            analyzer=Analyzer.of_language(settings.language),
        )
        encoder, saved = lsa, lsa.save(directory)
    elif settings.encoder == "sentence":
        encoder = SentenceEncoder(settings.encoder_path or "", batch_size=settings.batch_size)
        saved = encoder.settings
    else:
        encoder = BaseModelEncoder(config.model, batch_size=settings.batch_size)
        saved = encoder.settings
    write_json(
        directory / _SETTINGS,
        {
            "encoder": settings.encoder,
            "query_prefix": settings.query_prefix,
            "passage_prefix": settings.passage_prefix,
            "settings": saved,
        },
    )
    return _Prefixed(encoder, settings.query_prefix, settings.passage_prefix)


def saved_encoder(directory: Path, *, gpu: str = "auto") -> Encoder:
    s = read_json(directory / _SETTINGS)
    name, v = s["encoder"], s["settings"]
    if name == "lsa":
        e = LsaEncoder.load(directory, v)
    elif name == "sentence":
        e = SentenceEncoder(v["path"], batch_size=v["batch_size"])
    else:
        e = BaseModelEncoder(ModelConfig(**v["model"]), batch_size=v["batch_size"])
    return _Prefixed(e, s["query_prefix"], s["passage_prefix"])

"""Which encoder makes the vectors, and how it is kept with the index.

An encoder's directory has encoder.json, which says all that it takes to make the encoder again, and
what was fitted to the passages, if anything was. A key is never in it, only the name of the
environment variable that has it.
"""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from polyprag.config import Config, IndexConfig, ModelConfig, trust
from polyprag.errors import ConfigError, FileError, RunError
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.encoders.interface import Encoder, PrefixedEncoder, passage_text
from polyprag.retrieval.encoders.lsa import LsaEncoder
from polyprag.retrieval.remedy import REMEDY
from sharding.storage.files import join, read_json, write_json

_FILE = "encoder.json"

# What the vectors depend on, by kind of encoder.
_ALWAYS = ("encoder", "query_prefix", "passage_prefix")
_DECIDING = {
    "lsa": ("lsa_dims", "lsa_sketch", "language"),
    "base": ("pooling", "normalize", "max_tokens"),
    "sentence": ("encoder_path", "normalize"),
    "transformers": (
        "encoder_path",
        "query_encoder_path",
        "pooling",
        "normalize",
        "max_tokens",
        "passage_pair",
    ),
    "openai": ("encoder_path", "base_url", "normalize"),
}
_PATHS = {"sentence": ("encoder_path",), "transformers": ("encoder_path", "query_encoder_path")}
# What else it takes to make an encoder again.
_FURTHER = ("batch_size", "api_key_env")


@dataclass(frozen=True, kw_only=True)
class _Saved:
    """The contents of encoder.json.

    Attributes:
        index: the settings of the encoder, the others at their defaults.
        model: of `base`.
        fitted: what else the kind needs: `lsa` the settings of its files, `openai` the dims.
    """

    index: IndexConfig
    model: ModelConfig | None = None
    fitted: dict[str, Any] = field(default_factory=dict)


def encoder_settings(config: Config) -> dict[str, Any]:
    """Returns what decides the vectors of given passages, as JSON values.

    Directories are absolute. How many texts are encoded at once, on which device and with which key
    isn't in it.
    """
    index = config.index
    settings = {key: getattr(index, key) for key in _ALWAYS + _DECIDING[index.encoder]}
    for key in _PATHS.get(index.encoder, ()):
        settings[key] = _absolute(settings[key])
    if index.encoder == "base":
        settings |= {"path": _absolute(config.model.path), "revision": config.model.revision}
    return settings


def needs_sample(config: Config) -> bool:
    """Returns whether the encoder is fitted to passages."""
    return config.index.encoder == "lsa"


def uses_gpu(config: Config) -> bool:
    """Returns whether the encoder runs on this machine and gains by a GPU."""
    return config.index.encoder not in ("lsa", "openai")


def fit_encoder(directory: Path, sample: Iterable[tuple[str, str]], config: Config) -> Encoder:
    """Makes the encoder that a config asks for, and saves what it takes to make it again.

    Args:
        directory: an existing, empty directory.
        sample: title and text of passages, read where `needs_sample`.
        config: `index`, and `model` where the encoder is the run's own model.

    Raises:
        ConfigError: a model can't be loaded or doesn't fit the settings.
        CorpusError: LSA: the passages have too few words.
        EndpointError: the endpoint gives no vectors.
    """
    index = config.index
    settings = encoder_settings(config)
    kept = {key: settings[key] for key in _ALWAYS + _DECIDING[index.encoder]}
    kept |= {key: getattr(index, key) for key in _FURTHER}
    model = None
    if index.encoder == "base":
        model = asdict(config.model) | {"path": settings["path"]}
    fitted: dict[str, Any] = {}
    if index.encoder == "lsa":
        lsa = LsaEncoder.fit(
            (passage_text(title, text, prefix=index.passage_prefix) for title, text in sample),
            dims=index.lsa_dims,
            sketch=index.lsa_sketch,
            analyzer=Analyzer.of_language(index.language),
        )
        fitted = lsa.save(directory)
    values = {"index": kept, "model": model, "fitted": fitted}
    encoder = _opened(msgspec.convert(values, _Saved), directory, gpu=index.gpu)
    if index.encoder == "openai":
        fitted["dims"] = encoder.dims  # so that nobody has to ask for it again
        asked = trust.endpoint_of(config, trust.INDEX_ENDPOINT)
        trust.remember([] if asked is None else [asked])
    write_json(directory / _FILE, values)
    return encoder


def saved_encoder(
    directory: Path, *, gpu: str = "auto", given: tuple[str, str] | None = None
) -> Encoder:
    """Makes an encoder again.

    Args:
        directory: where `fit_encoder` saved it.
        gpu: `auto` puts it on the current GPU where there is one; `never` doesn't.
        given: `Outside.entry` of the endpoint that the user has given, where his own list of them
            is on another machine.

    Raises:
        RunError: encoder.json or what was fitted is damaged.
        ConfigError: a model isn't there any more, there is no key, or an endpoint would be asked
            that the user hasn't given.
    """
    saved = _read(directory)
    asked = _endpoint(saved.index)
    if asked is not None and asked.entry != given:
        _check(asked, directory, trust_run=False)
    return _opened(saved, directory, gpu=gpu)


def check_saved_endpoint(directory: str | Path, *, trust_run: bool) -> bool:
    """Returns whether a saved encoder asks another endpoint than OpenAI's own.

    Args:
        directory: where `fit_encoder` saved it, a path or URL.
        trust_run: whether the user trusts it, which is remembered.

    Raises:
        RunError: encoder.json is damaged.
        ConfigError: the user hasn't given the endpoint.
    """
    asked = _endpoint(_read(directory).index)
    if asked is None:
        return False
    _check(asked, directory, trust_run=trust_run)
    return True


def _endpoint(index: IndexConfig) -> trust.Outside | None:
    if index.encoder != "openai":
        return None
    return trust.endpoint(
        trust.INDEX_ENDPOINT, base_url=index.base_url, api_key_env=index.api_key_env
    )


def _check(asked: trust.Outside, directory: str | Path, *, trust_run: bool) -> None:
    places = dict.fromkeys(asked.values, join(directory, _FILE))
    trust.check(asked, given=(), places=places, trust_run=trust_run)


def saved_kind(directory: Path) -> str:
    """Returns which `index.encoder` a saved one is; loads nothing and asks nobody.

    Args:
        directory: where `fit_encoder` saved it.

    Raises:
        RunError: encoder.json is damaged.
    """
    return _read(directory).index.encoder


def _read(directory: str | Path) -> _Saved:
    path = join(directory, _FILE)
    try:
        return msgspec.convert(read_json(path), _Saved)
    except (OSError, FileError, ConfigError, msgspec.ValidationError) as error:
        raise RunError(f"{path}: damaged or of another version ({error}); {REMEDY}") from error


def _opened(saved: _Saved, directory: Path, *, gpu: str) -> Encoder:
    """Returns the encoder of a description and the files beside it."""
    index = saved.index
    prefixes = {"query_prefix": index.query_prefix, "passage_prefix": index.passage_prefix}
    path = index.encoder_path or ""
    if index.encoder == "lsa":
        return PrefixedEncoder(LsaEncoder.load(directory, saved.fitted), **prefixes)
    if index.encoder == "sentence":
        from polyprag.retrieval.encoders.sentence import SentenceEncoder

        return PrefixedEncoder(
            SentenceEncoder(path, batch_size=index.batch_size, normalize=index.normalize, gpu=gpu),
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
                dims=_saved_dims(saved, directory),
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
        raise RunError(f"{directory / _FILE}: names no base model; {REMEDY}")
    base: Any  # whose `base_model` transformers types as any torch module
    base, tokenizer = load_base(saved.model, device="cpu" if gpu == "never" else None)
    where = f"model.path={saved.model.path!r}"
    return PrefixedEncoder(
        PooledModel(base.base_model, tokenizer, pooling, where=where), **prefixes
    )


def _saved_dims(saved: _Saved, directory: Path) -> int | None:
    dims = saved.fitted.get("dims")
    if dims is not None and (not isinstance(dims, int) or dims < 1):
        raise RunError(f"{directory / _FILE}: vectors of {dims!r} numbers; {REMEDY}")
    return dims


def _absolute(path: str | None) -> str | None:
    """Returns a directory as seen from everywhere on this machine; a hub name as it is."""
    return os.path.abspath(path) if path and os.path.isdir(path) else path

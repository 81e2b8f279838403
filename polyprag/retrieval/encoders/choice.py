"""Which encoder makes the vectors, and how it is kept with the index.

An encoder's directory has encoder.json, which says all that it takes to make the encoder again, and
what was fitted to the passages, if anything was. A key is never in it, only the name of the
environment variable that has it.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from polyprag.config import Config, IndexConfig, ModelConfig, trust
from polyprag.config.paths import absolute_if_there
from polyprag.retrieval.analysis import Analyzer
from polyprag.retrieval.encoders.interface import Encoder, passage_text
from polyprag.retrieval.encoders.lsa import LsaEncoder
from polyprag.retrieval.encoders.model_files import fitted_weights
from polyprag.retrieval.encoders.saved import (
    ENCODER_FILE,
    SavedEncoder,
    open_saved,
    read_saved,
    saved_dims,
)
from sharding.storage.files import join, write_json

# What the vectors depend on, by kind of encoder.
_ALWAYS = ("encoder", "query_prefix", "passage_prefix")
_DECIDING = {
    "lsa": ("lsa_dims", "lsa_sketch", "language"),
    "base": ("pooling", "normalize", "max_tokens"),
    "sentence": ("encoder_path", "normalize", "model_prompts"),
    "transformers": (
        "encoder_path",
        "query_encoder_path",
        "pooling",
        "normalize",
        "max_tokens",
        "passage_pair",
    ),
    "openai": ("encoder_path", "base_url", "normalize", "max_tokens"),
}
_PATHS = {"sentence": ("encoder_path",), "transformers": ("encoder_path", "query_encoder_path")}
# What else it takes to make an encoder again.
_FURTHER = ("batch_size", "api_key_env")


def encoder_settings(config: Config) -> dict[str, Any]:
    """Returns what decides the vectors of given passages, as JSON values.

    Directories are absolute. How many texts are encoded at once, on which device and with which key
    isn't in it.
    """
    index = config.index
    settings = {key: getattr(index, key) for key in _ALWAYS + _DECIDING[index.encoder]}
    for key in _PATHS.get(index.encoder, ()):
        settings[key] = _found_anywhere(settings[key])
    if index.encoder == "openai" and index.max_tokens == IndexConfig().max_tokens:
        del settings["max_tokens"]  # as earlier versions had it, of whose vectors it changes none
    if index.encoder == "lsa":
        settings["analyzer"] = Analyzer.of_language(index.language).settings
    if index.encoder == "base":
        settings |= {
            "path": absolute_if_there(config.model.path),
            "revision": config.model.revision,
        }
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
    deciding = _ALWAYS + _DECIDING[index.encoder]
    kept = {key: value for key, value in settings.items() if key in deciding}
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
    encoder = open_saved(msgspec.convert(values, SavedEncoder), directory, gpu=index.gpu)
    if index.encoder == "openai":
        fitted["dims"] = encoder.dims  # so that nobody has to ask for it again
        asked = trust.endpoint_of(config, trust.INDEX_ENDPOINT)
        trust.remember([] if asked is None else [asked])
    saved_model = None if model is None else msgspec.convert(model, ModelConfig)
    fitted |= fitted_weights(index, saved_model)  # once a hub's model has been fetched
    write_json(directory / ENCODER_FILE, values)
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
    saved = read_saved(directory)
    asked = _endpoint(saved.index)
    if asked is not None and asked.entry != given:
        _check(asked, directory, trust_run=False)
    return open_saved(saved, directory, gpu=gpu)


def check_saved_endpoint(directory: str | Path, *, trust_run: bool) -> bool:
    """Returns whether a saved encoder asks another endpoint than OpenAI's own.

    Args:
        directory: where `fit_encoder` saved it, a path or URL.
        trust_run: whether the user trusts it, which is remembered.

    Raises:
        RunError: encoder.json is damaged.
        ConfigError: the user hasn't given the endpoint.
    """
    asked = _endpoint(read_saved(directory).index)
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
    places = dict.fromkeys(asked.values, join(directory, ENCODER_FILE))
    trust.check(asked, given=(), places=places, trust_run=trust_run)


def cheap_dims(directory: Path) -> int | None:
    """Returns the length of a saved encoder's vectors; None where a model would have to be loaded.

    Args:
        directory: where `fit_encoder` saved it.

    Raises:
        RunError: encoder.json or what was fitted is damaged.
    """
    saved = read_saved(directory)
    if saved.index.encoder == "lsa":
        return LsaEncoder.load(directory, saved.fitted).dims
    return saved_dims(saved, directory)


def saved_kind(directory: Path) -> str:
    """Returns which `index.encoder` a saved one is; loads nothing and asks nobody.

    Args:
        directory: where `fit_encoder` saved it.

    Raises:
        RunError: encoder.json is damaged.
    """
    return read_saved(directory).index.encoder


def _found_anywhere(path: str | None) -> str | None:
    return absolute_if_there(path) if path else path

"""The files of a model that makes vectors: refused where odd, and known again by their weights.

Vectors of passages and of questions must come from one model. Its path tells nothing of that: other
weights may lie there since.
"""

import os
from pathlib import Path
from typing import Any

from polyprag.config import IndexConfig, ModelConfig
from polyprag.errors import ConfigError, RunError
from polyprag.pretrained import LOAD_ERRORS, UnusableModelError, located
from polyprag.pretrained.files import CONFIG, refuse_adapter, settings_in
from polyprag.pretrained.identity import weights_digest

_WEIGHTS = "weights"  # the key in encoder.json, beside what else was fitted


def fitted_weights(index: IndexConfig, model: ModelConfig | None) -> dict[str, Any]:
    """Returns what tells an encoder's model, and that of its queries, from others.

    Args:
        index: which encoder.
        model: of `index.encoder=base`.

    Returns:
        {"weights": {setting: digest}}, without what can't be known, such as a model behind an
        endpoint; empty where nothing can.
    """
    found = {}
    for key, path, revision in _models(index, model):
        try:
            digest = weights_digest(path, revision=revision)
        except LOAD_ERRORS:  # sentence-transformers' may lie in directories of their own
            continue
        if digest is not None:
            found[key] = digest
    return {_WEIGHTS: found} if found else {}


def check_fitted_weights(
    fitted: dict[str, Any], index: IndexConfig, model: ModelConfig | None, *, where: str
) -> None:
    """Refuses an encoder whose model isn't the one that made the vectors.

    Args:
        fitted: of encoder.json; what isn't there was never known, and passes.
        index: which encoder.
        model: of `index.encoder=base`.
        where: names encoder.json in errors.

    Raises:
        RunError: it has other weights.
    """
    before = fitted.get(_WEIGHTS)
    if not isinstance(before, dict):
        return
    now = fitted_weights(index, model).get(_WEIGHTS, {})
    for key, path, _ in _models(index, model):
        if key in before and key in now and before[key] != now[key]:
            raise RunError(
                f"{where}: {key}={path!r} has other weights than the model that made the index's "
                "vectors; bring that back, or delete RUN/index and run `polyprag index RUN`"
            )


def check_sentence_files(path: str) -> None:
    """Refuses a sentence-transformers model whose files can't be or name code from elsewhere.

    Raises:
        ConfigError: one line with the file.
    """
    try:
        directory = Path(located(path))
        if directory.is_file():
            raise UnusableModelError(
                "it is a file; a sentence-transformers model is a directory with modules.json"
            )
        if not directory.is_dir():
            return
        inner = [Path(entry.path) for entry in os.scandir(directory) if entry.is_dir()]
        for place in (directory, *inner):
            refuse_adapter(place)
            if (place / CONFIG).exists() and (place == directory or "Pooling" not in place.name):
                settings_in(place)
    except UnusableModelError as error:
        raise ConfigError(f"index.encoder_path={path!r} can't be used: {error}") from error


def _models(index: IndexConfig, model: ModelConfig | None) -> list[tuple[str, str, str | None]]:
    """Returns setting, path and revision of every model that makes vectors on this machine."""
    if index.encoder == "base":
        return [("model.path", model.path, model.revision)] if model is not None else []
    if index.encoder not in ("sentence", "transformers"):
        return []
    keys = ("encoder_path", "query_encoder_path")
    paths = {key: getattr(index, key) for key in keys}
    return [(f"index.{key}", path, None) for key, path in paths.items() if path]

"""Models from a directory or the hub: safetensors weights, and code that transformers ships."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

LOAD_ERRORS = (OSError, ValueError, SafetensorError)  # what loading raises where it can't


def source_of(path: str, *, revision: str | None = None) -> dict[str, Any]:
    """Returns the arguments of any `from_pretrained` that say where from.

    Args:
        path: a directory, which never makes a call to the hub, or a hub name.
        revision: of a hub name.
    """
    is_local = Path(path).is_dir()
    return {
        "revision": None if is_local else revision,
        "local_files_only": is_local,
        "trust_remote_code": False,
    }


def load_model(
    kind: Any, path: str, *, revision: str | None = None, **options: Any
) -> tuple[Any, list[str]]:
    """Loads a model.

    Args:
        kind: a model class, or an AutoModel.
        path: a directory or a hub name.
        revision: of a hub name.
        options: further arguments of `from_pretrained`.

    Returns:
        The model, and the sorted names of the weights that its files lack or have in another shape:
        transformers fills these with random numbers after a mere warning.

    Raises:
        LOAD_ERRORS: it can't be loaded.
    """
    model, info = kind.from_pretrained(
        path,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # so that they are reported
        output_loading_info=True,
        **source_of(path, revision=revision),
        **options,
    )
    mismatched = (str(name[0]) for name in info["mismatched_keys"])
    return model, sorted({*info["missing_keys"], *mismatched})

"""Where a model is: a directory, a GGUF file, what comes with polyprag, or a name on the hub.

    located("polyprag:tiny-base")  # the directory inside the installed package, or in the checkout

A path that isn't there is never asked of the hub, where anybody may have taken its name.
"""

import os
import re
from pathlib import Path

from polyprag.pretrained.unusable import UnusableModelError

TINY_BASE = "polyprag:tiny-base"
_PREFIX = "polyprag:"
_GGUF = ".gguf"
# What earlier versions called it, in the settings that they saved.
_BEFORE = {os.path.join("examples", "tiny-base"): TINY_BASE}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_LONGEST_HUB_NAME = 200


def located(path: str) -> str:
    """Returns the directory or GGUF file that a model's path means, or the hub name that it is.

    Raises:
        UnusableModelError: it is a path of this machine and no model is there, or no model of that
            name comes with polyprag.
    """
    if path.startswith(_PREFIX):
        return _shipped(path)
    if os.path.isdir(path) or is_gguf(path):
        return path
    if path in _BEFORE:
        return _shipped(_BEFORE[path])
    if os.path.exists(path):
        raise UnusableModelError(
            "it is a file, and a model is a directory with config.json, the tokenizer's files and "
            f"weights as .safetensors, or a file that ends in {_GGUF}"
        )
    if not is_hub_name(path):
        raise UnusableModelError(
            f"there is no directory {os.path.abspath(path)}, and a name on the hub is OWNER/NAME"
        )
    return path


def is_gguf(path: str) -> bool:
    """Returns whether a path is that of a file with the name of a GGUF file."""
    return path.endswith(_GGUF) and os.path.isfile(path)


def is_on_this_machine(path: str) -> bool:
    """Returns whether a model's path means one of this machine; False for a hub name.

    Raises:
        UnusableModelError: as of `located`.
    """
    return os.path.exists(located(path))


def is_hub_name(path: str) -> bool:
    """Returns whether a path that isn't a directory may be a name on the hub.

    `models/llama` isn't one where there is a directory `models`: it is a path with a mistake.
    """
    if len(path) > _LONGEST_HUB_NAME or not _HUB_NAME.fullmatch(path):
        return False
    first, slash, _ = path.partition("/")
    return not (slash and os.path.isdir(first))


def _shipped(path: str) -> str:
    name = path.removeprefix(_PREFIX)
    package = Path(__file__).parents[1]
    # Inside the package where it is installed, beside it in a checkout.
    places = {"tiny-base": (package / "models", package.parent / "examples")}
    found = [place / name for place in places.get(name, ()) if (place / name).is_dir()]
    if found:
        return str(found[0])
    if name in places:
        raise UnusableModelError(
            f"this installation of polyprag lacks it ({places[name][0] / name}): install polyprag "
            "again, or take another model"
        )
    raise UnusableModelError(f"the model that comes with polyprag is {TINY_BASE}")

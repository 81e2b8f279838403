"""Names of models: NAME is the base model, NAME:MODE a way to answer, NAME:MODE:KEY,KEY a mixture.

A key that has a comma or a percent sign in it is percent-encoded (`%2C`, `%25`).
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from polyprag.answering.modes import Mode
from polyprag.serving.failures import ApiError


def mode_and_keys(
    model: str, *, name: str, modes: Sequence[Mode]
) -> tuple[Mode, tuple[str, ...] | None]:
    """Returns how a model's name says that is answered, and with which passages.

    Args:
        model: that a request names.
        name: of the run, as it is served.
        modes: that the run is ready for.

    Raises:
        ApiError: there is no such model.
    """
    own, _, rest = model.removeprefix(name).partition(":")
    mode, _, keys = rest.partition(":")
    known = {each: each for each in modes}
    if not model.startswith(name) or own or (rest and mode not in known):
        names = ", ".join([name, *(f"{name}:{each}" for each in modes)])
        raise ApiError(
            404,
            f"the model {model!r} doesn't exist: use one of {names}",
            code="model_not_found",
            param="model",
        )
    if not rest:
        return "closed", None
    if not keys:
        return known[mode], None  # type: ignore[index]
    return known[mode], tuple(unquote(key) for key in keys.split(","))  # type: ignore[index]


def model_cards(
    name: str, *, base: str, modes: Sequence[Mode], created: int, window: int | None
) -> list[dict[str, Any]]:
    """Returns what `/v1/models` lists: the base model, and each way to answer."""
    card = {"object": "model", "created": created, "owned_by": "polyprag", "max_model_len": window}
    own = {"id": name, **card, "root": base, "parent": None}
    return [
        own,
        *({"id": f"{name}:{mode}", **card, "root": base, "parent": name} for mode in modes),
    ]

"""Poly-PRAG: parametric retrieval-augmented generation with latent routing (arXiv 2511.17044)."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polyprag.version import __version__ as __version__

if TYPE_CHECKING:
    from polyprag.answering.engine import Engine
    from polyprag.answering.modes import Mode


def load(
    run: str | Path,
    *settings: str,
    configs: Sequence[str] = (),
    modes: "Collection[Mode] | None" = None,
    most: int | None = None,
) -> "Engine":
    """Loads a run, to be asked from Python: base model, experts and index.

        with polyprag.load("runs/quickstart") as engine:
            print(engine.ask("Where was Ada Lovelace born?"))

    Args:
        run: a run directory; each mode needs of it what `polyprag ask` says.
        settings: `section.key=value`, as the commands take them.
        configs: names or paths of configs, as with `--config`.
        modes: what will be asked for, and so what is loaded; None: all that the run has.
        most: continuations that are said at a time; None: `generation.batch_size`.

    Raises:
        RunError: the run lacks something that a mode needs.
        ConfigError: a setting can't be used, or the base model can't be loaded.
    """
    from polyprag.answering.engine import Engine
    from polyprag.config.files import load_config
    from polyprag.config.trust import CACHE_DIR

    config = load_config(configs, settings, run, uses=(CACHE_DIR,))
    return Engine.open(run, config, modes=modes, most=most)


def register_peft() -> None:
    """Makes peft load a run's experts: `PeftModel.from_pretrained(base, RUN/encoding)`.

        polyprag.register_peft()
        model = PeftModel.from_pretrained(base, "runs/wiki/encoding")
        with model.passages("ada-lovelace"):
            model.generate(**inputs)

    Called again, it does nothing.
    """
    from polyprag.export.peft_method import register_method

    register_method()

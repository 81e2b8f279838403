"""Who writes about passages, by `augment.backend`; a process loads a model once for its tasks."""

from collections.abc import Iterator, Sequence
from functools import partial

from polyprag.augment.prompt import EMPTY
from polyprag.augment.written import Writer, Written
from polyprag.config import AugmentConfig, Config, trust
from sharding.corpus.passages import Passage

MODELS = ("hf", "openai")  # what they write costs time or money, and comes otherwise the next time
_LOADED: list[tuple[Config, Writer]] = []
_ENDPOINT = {"is_known": False, "lets_go": False}


def writer_of(config: Config) -> Writer:
    """Returns the backend; its packages are imported only when it is the chosen one.

    The same one for all partitions: what it learns of an endpoint holds for all.

    Raises:
        ConfigError: it can't be used.
    """
    if not _LOADED or _LOADED[0][0] != config:
        _LOADED.clear()  # the memory of a model that is no longer asked
        _LOADED.append((config, _loaded(config)))
    return _LOADED[0][1]


def forget_endpoint(*, is_known: bool = False, lets_go: bool = False) -> None:
    """Makes the next `writer_of` look anew; a command calls it that begins. A model stays.

    Args:
        is_known: see `OpenAIWriter`.
        lets_go: see `OpenAIWriter`.
    """
    _ENDPOINT.update(is_known=is_known, lets_go=lets_go)
    if _LOADED and _LOADED[0][0].augment.backend != "hf":
        _LOADED.clear()


def _loaded(config: Config) -> Writer:
    if config.augment.backend == "none":
        return _nothing
    if config.augment.backend == "hf":
        from polyprag.augment.hf import load_writer

        return load_writer(config)
    if config.augment.backend == "openai":
        from polyprag.augment.openai import OpenAIWriter

        asked = trust.endpoint_of(config, trust.AUGMENT_ENDPOINT)
        trust.remember([] if asked is None else [asked])  # so that `add` asks it, too
        return OpenAIWriter(config.augment, **_ENDPOINT)
    return _rules(config.augment)


def _nothing(passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
    """Writes nothing: for those who have all their question-answer pairs."""
    for position in range(len(passages)):
        yield position, Written(EMPTY)


def _rules(augment: AugmentConfig) -> Writer:
    from polyprag.augment import rules
    from polyprag.augment.writing.avoided import avoided_in

    return partial(
        rules.write_all,
        num_rewrites=augment.wanted_rewrites,
        num_qas=augment.wanted_qas,
        avoided=avoided_in(augment.avoid),
    )

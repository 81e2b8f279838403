"""PRAG's `data_aug` files: questions, each with passages about which a model has written.

The layout is that of `data_aug.tar.gz` and `src/augment.py` of github.com/oneal2000/PRAG: a list of
objects with `question`, `answer`, `passages` and `augment`, a list of {pid, passage,
<model>_rewrite, <model>_qa: [{question, answer, full_answer}]}. The question of an entry is one
of an evaluation, and is not taken.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from polyprag.augment.pairs.fields import text_of
from polyprag.augment.pairs.pair import Pair, PairsError, Unusable
from sharding.corpus.passages import QA

_QA = "_qa"


def is_prag(item: object) -> bool:
    """Returns whether an item of a JSON list is an entry of such a file."""
    return isinstance(item, Mapping) and isinstance(item.get("augment"), list)


def prag_pairs(entry: Mapping[str, Any], where: str) -> Iterator[Pair | Unusable]:
    """Yields the pairs of an entry's passages, of every model that wrote some.

    Models wrote these files: an item that is no pair is told as one, and takes no other with it.
    """
    for number, written in enumerate(entry["augment"]):
        at = f"{where}, augment[{number}]"
        passage = written.get("passage") if isinstance(written, Mapping) else None
        if not isinstance(passage, str) or not passage.strip():
            yield Unusable(at, "no passage; PRAG's have `passage` and `<model>_qa`")
            continue
        for name, asked in written.items():
            if not name.endswith(_QA) or not isinstance(asked, list):
                continue  # where the model's text was no JSON, PRAG keeps the text
            for index, qa in enumerate(asked):
                place = f"{at}.{name}[{index}]"
                try:
                    yield _pair(qa, " ".join(passage.split()), place)
                except PairsError as error:
                    yield Unusable(place, str(error).removeprefix(f"{place}: "))


def _pair(qa: object, passage: str, where: str) -> Pair:
    if not isinstance(qa, Mapping):
        raise PairsError(f"{where}: not an object with question, answer and full_answer")
    question, answer = (_joined(qa.get(name), where, name) for name in ("question", "answer"))
    if not question or not answer:
        raise PairsError(f"{where}: no question or no answer")
    full = _joined(qa.get("full_answer"), where, "full_answer") or answer
    return Pair(QA(question, answer, full), where, text=passage)


def _joined(value: Any, where: str, name: str) -> str | None:
    """Returns a field's text; a list is one answer of several parts, as PRAG has it."""
    if isinstance(value, list):
        parts = [text_of(each, where, name) or "" for each in value]
        return ", ".join(filter(None, parts))
    return text_of(value, where, name)

"""What a language model is asked to write about a passage, and the check of what it wrote.

The wording follows PRAG (arXiv 2501.15915, appendix): rewrites that keep every fact, and questions
with a short and a full answer, as one JSON object.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from polyprag.augment.written import Written
from polyprag.config import AugmentConfig
from sharding.corpus.passages import QA, Augmentation, Passage

EMPTY = Augmentation(rewrites=(), qas=())  # recorded for a passage that no attempt succeeded on

# (passages, attempt from 0) -> the model's text for each; later attempts sample.
Complete = Callable[[Sequence[Passage], int], list[str]]


class MalformedError(ValueError):
    """A model's text isn't the JSON that was asked for; says what is wrong with it."""


def instruction(passage: Passage, *, num_rewrites: int, num_qas: int) -> str:
    """Returns the request for one passage's augmentation."""
    wanted = []
    if num_rewrites:
        wanted.append(
            f"- rewrite it {num_rewrites} time(s), each in other words and sentence structures, "
            "keeping every name, date, number and fact, and adding nothing"
        )
    if num_qas:
        wanted.append(
            f"- write {num_qas} different question(s) that the passage answers. Each must make "
            "sense to a reader who hasn't seen the passage, so name its subject. `answer` is a few "
            "words from the passage; `full_answer` is one complete sentence"
        )
    shape = {
        "rewrites": ["..."] if num_rewrites else [],
        "qas": [{"question": "...", "answer": "...", "full_answer": "..."}] if num_qas else [],
    }
    lines = "\n".join(wanted)
    return (
        f"Read the passage below, then:\n{lines}\n"
        f"Reply with one JSON object and nothing else, of this form:\n{json.dumps(shape)}\n\n"
        f"Title: {passage.title}\nPassage: {passage.text}"
    )


def parse_reply(text: str, *, num_rewrites: int, num_qas: int) -> Augmentation:
    """Returns the augmentation in a model's reply; what is beyond the wanted number is dropped.

    Args:
        text: the reply; words or code fences around the JSON object are passed over.
        num_rewrites: how many rewrites there must be.
        num_qas: how many question-answer pairs there must be.

    Raises:
        MalformedError: there is no JSON object with enough non-empty texts in it.
    """
    problem = "it holds no JSON object"
    for candidate in _json_objects(text):
        try:
            return _augmentation(candidate, num_rewrites, num_qas)
        except MalformedError as error:
            problem = str(error)
    raise MalformedError(problem)


def write_with_retries(
    passages: Sequence[Passage], complete: Complete, config: AugmentConfig
) -> list[Augmentation]:
    """Returns each passage's augmentation, asking again where the reply can't be used.

    Args:
        passages: what to write about.
        complete: asks the model; called first with all passages, then with those that failed.
        config: `num_rewrites`, `num_qas`, and up to `max_retries` further attempts (none when
            `temperature` is 0: a greedy model would repeat itself).

    Returns:
        One augmentation a passage; `EMPTY` where every attempt failed.
    """
    written = [EMPTY] * len(passages)
    pending = list(range(len(passages))) if config.num_rewrites or config.num_qas else []
    for attempt in range(1 + (config.max_retries if config.temperature > 0 else 0)):
        if not pending:
            break
        replies = complete([passages[i] for i in pending], attempt)
        failed = []
        for i, reply in zip(pending, replies, strict=True):
            try:
                written[i] = parse_reply(
                    reply, num_rewrites=config.num_rewrites, num_qas=config.num_qas
                )
            except MalformedError:
                failed.append(i)
        pending = failed
    return written


def written_or_open(augmentation: Augmentation, config: AugmentConfig) -> Written:
    """Returns what came of a passage that a model was asked about; `EMPTY` is a failure."""
    if augmentation != EMPTY or not (config.num_rewrites or config.num_qas):
        return Written(augmentation)
    return Written(EMPTY, failure="no reply held the JSON that was asked for")


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Yields the outermost JSON objects in `text`, in order."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at != -1:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(value, dict):
                yield value
        at = text.find("{", end)


def _augmentation(value: dict[str, Any], num_rewrites: int, num_qas: int) -> Augmentation:
    rewrites = [_text(each, "rewrites") for each in _list(value, "rewrites", num_rewrites)]
    qas = []
    for each in _list(value, "qas", num_qas):
        if not isinstance(each, dict):
            raise MalformedError("'qas' must hold objects")
        question, answer = (
            _text(each.get("question"), "question"),
            _text(each.get("answer"), "answer"),
        )
        full_answer = _text(each.get("full_answer", answer), "full_answer")
        qas.append(QA(question=question, answer=answer, full_answer=full_answer))
    return Augmentation(rewrites=tuple(rewrites), qas=tuple(qas))


def _list(value: dict[str, Any], name: str, wanted: int) -> list[Any]:
    found = value.get(name, [])
    if not isinstance(found, list) or len(found) < wanted:
        raise MalformedError(f"{name!r} must be a list of {wanted}")
    return found[:wanted]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise MalformedError(f"{name!r} must be a non-empty string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MalformedError(f"{name!r} isn't valid Unicode") from error
    return " ".join(value.split())

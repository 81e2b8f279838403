"""What is asked of a model about one passage: which questions of which targets, which rewrites."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyprag.augment.writing.injected import Orders
from polyprag.augment.writing.subjects import subject_of
from polyprag.augment.writing.targets import AskedSpan, lines_and_sentences, targets_of
from sharding.corpus.passages import Passage

# How a request is worded and its reply is read.
ITEMS, SPAN, CHECK = "items", "span", "check"
REWRITE, IMPLICATIONS, CONDITIONED = "rewrite", "implications", "conditioned"
_WORDINGS = 2  # of each target's question, where that leaves none out
_MOST_WORDINGS = 4
_REVERSED = 5  # one question of so many is asked from the other side
_OPENINGS = {  # of a question, by what it asks for; at each turn another one
    "date": ("When", "On what date", "In what year", "What date"),
    "number": ("How", "What", "How many", "Which"),
    "clause": ("What", "", "How", "Which"),
    "series": ("What", "Which", "", "What are"),
}
_ANY_OPENING = ("", "What", "Which", "Who")
_MORE = 1.25  # asked for than is wanted, because some isn't kept


@dataclass(frozen=True, slots=True)
class Ask:
    """Questions that have one answer.

    Attributes:
        answer: what they ask for.
        context: the sentence that says it.
        mention: what they must have in them; empty for anything.
        count: how many wordings.
        kind: of the answer: see `AskedSpan`.
        opening: what the question begins with, where it is asked for alone.
    """

    answer: str
    context: str
    mention: str = ""
    count: int = 1
    kind: str = ""
    opening: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One thing to say to a model.

    Attributes:
        kind: `items` (several questions as JSON), `span` (one question), `check` (the answer to
            one), or one of the rewrites: `rewrite`, `implications`, `conditioned` (on a question).
        passage: what it is about.
        asks: for questions; empty: whatever questions fit.
        num_qas: questions wanted.
        question: what is to be answered, shortly or by a `conditioned` rewrite.
        turn: 0 for the first of its kind; later ones are sampled.
    """

    kind: str
    passage: Passage
    asks: tuple[Ask, ...] = ()
    num_qas: int = 0
    question: str = ""
    turn: int = 0


def asks_of(passage: Passage, num_qas: int, *, more: float = _MORE) -> list[Ask]:
    """Returns what to ask about a passage: targets from all of it, and some from the other side.

    Args:
        passage: sentences that order about its reader aren't asked about.
        num_qas: questions wanted.
        more: how many times that are asked for.

    Returns:
        Asks in the order of importance; none where no target is found.
    """
    orders = Orders(passage)
    subject = subject_of(passage)
    found = targets_of(passage.text, title=passage.title)
    targets = [each for each in found if each.sentence not in orders.sentences]
    wanted = round(num_qas * more)
    num_reversed = wanted // _REVERSED if subject else 0
    chosen = _chosen(targets, wanted - num_reversed, len(lines_and_sentences(passage.text)))
    counts = _shares(wanted - num_reversed, len(chosen))
    asks = [
        Ask(target.text, target.context, count=count, kind=target.kind)
        for target, count in zip(chosen, counts, strict=True)
    ]
    for target in _telling(chosen)[:num_reversed]:
        asks.append(Ask(str(subject), target.context, mention=target.text))
    return asks


def question_requests(passage: Passage, num_qas: int, *, at_once: int) -> list[ModelRequest]:
    """Returns requests for several questions each, at most `at_once`."""
    asks = asks_of(passage, num_qas)
    if not asks:
        return [ModelRequest(ITEMS, passage, num_qas=min(num_qas, at_once))] if num_qas else []
    requests: list[ModelRequest] = []
    batch: list[Ask] = []
    # Neighbours together: where a window is too short, a part of the passage is shown to each.
    for ask in sorted(asks, key=lambda ask: passage.text.find(ask.mention or ask.answer)):
        if batch and sum(each.count for each in batch) + ask.count > at_once:
            requests.append(_items(passage, batch))
            batch = []
        batch.append(ask)
    return [*requests, _items(passage, batch)]


def span_requests(passage: Passage, num_qas: int, *, more: float) -> list[ModelRequest]:
    """Returns requests for one question each: every target's first wording, then the second ones.

    Args:
        passage: what they are about.
        num_qas: questions wanted.
        more: how many times that are asked for.
    """
    asks = asks_of(passage, num_qas, more=more)
    turns = max((ask.count for ask in asks), default=0)
    return [
        ModelRequest(SPAN, passage, (_opened(ask, turn),), 1, turn=turn)
        for turn in range(turns)
        for ask in asks
        if turn < ask.count
    ]


def rewrite_requests(
    passage: Passage, num_rewrites: int, *, questions: Sequence[str], simple: bool
) -> list[ModelRequest]:
    """Returns requests for rewrites: in other words, as what follows from it, for a question.

    Args:
        passage: what is rewritten.
        num_rewrites: wanted.
        questions: of the passage; one a rewrite that is conditioned on a question.
        simple: for a small model, which draws no conclusions.
    """
    kinds = (REWRITE, CONDITIONED) if simple else (REWRITE, IMPLICATIONS, CONDITIONED)
    requests = []
    for number in range(num_rewrites):
        kind, turn = kinds[number % len(kinds)], number // len(kinds)
        if kind == CONDITIONED and not questions:
            kind, turn = REWRITE, number
        question = questions[(7 * turn) % len(questions)] if kind == CONDITIONED else ""
        requests.append(ModelRequest(kind, passage, question=question, turn=turn))
    return requests


def _opened(ask: Ask, turn: int) -> Ask:
    """Returns an ask whose question begins as fits its answer, otherwise at each turn."""
    openings = _OPENINGS.get(ask.kind, _ANY_OPENING)
    return replace(ask, opening=openings[turn % len(openings)])


def _items(passage: Passage, asks: Sequence[Ask]) -> ModelRequest:
    return ModelRequest(ITEMS, passage, tuple(asks), sum(ask.count for ask in asks))


def _chosen(targets: Sequence[AskedSpan], wanted: int, num_sentences: int) -> list[AskedSpan]:
    """Returns targets from the front: of each sentence one, and no fewer than for two wordings."""
    number = max(wanted // _WORDINGS, min(num_sentences, wanted))
    return list(targets[:number])


def _shares(wanted: int, number: int) -> list[int]:
    """Divides so many wordings among so many targets, the first ones getting more."""
    if not number:
        return []
    each, over = divmod(wanted, number)
    return [min(_MOST_WORDINGS, each + (i < over)) for i in range(number)]


def _telling(targets: Sequence[AskedSpan]) -> list[AskedSpan]:
    """Returns targets whose mention tells what a question is about: names and clauses first."""
    rank = {"name": 0, "quoted": 0, "clause": 1, "item": 1, "series": 1, "date": 2, "number": 2}
    return sorted(targets, key=lambda target: rank.get(target.kind, 3))

"""What a passage is about, by its title, and how a question says so."""

# ruff: noqa: RUF001 - the dashes and quotes of real text are what is matched

import re
from typing import NamedTuple

PATH = " > "
_NAMED = re.compile(
    r"(?<!^)(?<![.?!] )\b(?:[A-Z][\w'’-]*[a-zà-ÿ0-9]|[A-Z]{2,}[\w-]*|[A-Za-z]*\d+[A-Za-z-]+\w*)"
)
_TIMES = re.compile(
    r"^(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|I|GB|MB|KB|EUR|USD)$"
)


class Topic(NamedTuple):
    """A passage's place.

    Attributes:
        document: the title of the whole; empty for none.
        heading: of the part that the passage is from; empty for none.
    """

    document: str
    heading: str

    @property
    def is_path(self) -> bool:
        """Whether the title is a document's, and not the name of a subject."""
        return bool(self.heading)


def topic_of(title: str) -> Topic:
    """Returns what a title names: `Handbook > Leave > Parental leave` is a path."""
    names = [" ".join(name.split()) for name in title.split(PATH)]
    names = [name for name in names if name]
    if not names:
        return Topic("", "")
    return Topic(names[0], names[-1] if len(names) > 1 else "")


def names_something(text: str) -> bool:
    """Tells whether a question has a name in it: a capital within it, or letters with digits."""
    return any(not _TIMES.match(match.group()) for match in _NAMED.finditer(text))


def has_name(subject: str) -> bool:
    """Tells whether a subject, written as within a sentence, has a name in it: "the Lumet 5"."""
    return names_something(f"x {subject}") or subject[:1].isupper()


def placed(question: str, topic: Topic, *, is_named: bool | None) -> list[str]:
    """Returns a question's wordings that say what it is about; none where nothing does.

    Args:
        question: with its question mark.
        topic: the passage's.
        is_named: whether the question says it without the topic; None: by any name in it.
    """
    named = names_something(question) if is_named is None else is_named
    plain = question[:1].upper() + question[1:]
    if topic.document and topic.document.casefold() in question.casefold():
        return [plain]
    if not topic.document:
        return [plain] if named else []
    low = plain[:1].lower() + plain[1:]
    if topic.heading and topic.heading.casefold() not in question.casefold():
        context = f'under "{topic.heading}" in "{topic.document}"'
    else:
        context = f'in "{topic.document}"'
    around = [
        f'According to "{topic.document}", {low}',
        f"{context[:1].upper()}{context[1:]}: {low}",
    ]
    return [plain, around[0]] if named else around

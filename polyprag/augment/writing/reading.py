"""What a model wrote, read leniently: questions out of JSON or lines, one question, one text."""

import json
import re
from collections.abc import Iterator
from typing import Any

from polyprag.augment.writing.keep import Proposed, on_one_line
from polyprag.tokens.thinking import without_thinking

_FENCE = re.compile(r"^\s*```\w*\s*\n?|\n?\s*```\s*$")
_LEAD_IN = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok)[^\n]{0,20}[!,.:]\s*)?"
    r"(?:(?:here(?:'s| is| are)|this is|below is|the following is)[^\n:]{0,80}:\s*"
    r"|(?:re-?written|revised|new)?\s*(?:passage|text|version|rewrite|statements?|question|q)"
    r"(?: ?\d+)?\s*:\s*)",
    re.I,
)
# Where a question begins in a line; not after an initial ("Bruce C. Heezen").
_BEGINS = re.compile(
    r"[.!:] +(?=(?:What|Which|Who|Whom|Whose|When|Where|Why|How|In|On|At|By|For|From|To|Is|Are|Was"
    r"|Were|Do|Does|Did|Can|Could|May|Must|Should|Will|Has|Have)\b)"
)
_LISTED = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_Q_AND_A = re.compile(
    r"(?:^|\n)\W*(?:question|q)\W*\d*\W*?[:.][\s*]*(?P<q>[^\n]+\?)\W*\n+\W*(?:short )?"
    r"(?:answer|a)\W*\d*\W*?[:.][\s*]*(?P<a>[^\n]+)",
    re.I,
)
_LISTS = ("qas", "questions", "qa", "items", "data", "pairs")
_QUESTION = ("question", "q", "query")
_ANSWER = ("answer", "a", "short_answer", "answers", "response")
_FULL = ("full_answer", "long_answer", "full", "sentence")
_MOST_OBJECTS = 1000


def proposed_items(reply: str) -> list[Proposed]:
    """Returns the questions and answers in a reply, whatever stands around them.

    Of JSON that breaks off, what is whole in it; numbers and lists are made text. Without any JSON,
    lines `Question: ...` and `Answer: ...`.
    """
    text = without_thinking(reply)
    found = [item for value in _objects(text) for item in _items_of(value)]
    if not found:
        found = [Proposed(one["q"], one["a"]) for one in _Q_AND_A.finditer(text)]
    return found


def proposed_question(reply: str) -> str:
    """Returns the first question in a reply, empty where there is none."""
    for line in without_thinking(reply).splitlines():
        line = _LISTED.sub("", line.strip().strip("\"'“”*"))
        line = _LEAD_IN.sub("", line).strip().strip("\"'“”*")
        end = line.find("?")
        if end > 0:
            starts = [match.end() for match in _BEGINS.finditer(line, 0, end)]
            start = starts[-1] if starts else 0
            return line[start : end + 1].strip().strip("\"'“”*")
    return ""


def proposed_text(reply: str) -> str:
    """Returns a rewrite without what a model says before it, and without code fences."""
    text = _FENCE.sub("", without_thinking(reply)).strip()
    text = _LEAD_IN.sub("", text).strip()
    lines = [_LISTED.sub("", line) for line in text.splitlines()]
    text = on_one_line(" ".join(lines))
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yields the outermost JSON objects that are whole, in order."""
    decoder, at = json.JSONDecoder(), text.find("{")
    for _ in range(_MOST_OBJECTS):
        if at == -1:
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(value, dict):
                yield value
        at = text.find("{", end)


def _items_of(value: dict[str, Any]) -> Iterator[Proposed]:
    """Yields what an object proposes: the items of its list, or itself."""
    lowered = {str(name).lower(): each for name, each in value.items()}
    items = next((lowered[name] for name in _LISTS if isinstance(lowered.get(name), list)), None)
    if items is None:
        if any(name in lowered for name in _QUESTION):
            items = [lowered]
        else:
            return
    for item in items:
        if isinstance(item, dict):
            fields = {str(name).lower(): each for name, each in item.items()}
            yield Proposed(
                _field(fields, _QUESTION) or "?", _field(fields, _ANSWER), _field(fields, _FULL)
            )
        else:
            yield Proposed(_text(item) or "?", "")  # dropped, and counted


def _field(fields: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((_text(fields[name]) for name in names if name in fields), "")


def _text(value: Any) -> str:
    """Returns a JSON value as text: 1903 as "1903", ["a", "b"] as "a, b", null as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    if isinstance(value, dict):
        return ", ".join(filter(None, map(_text, value.values())))
    return str(value)

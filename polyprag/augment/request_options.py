"""The options of a request to an endpoint, and which of them it has refused."""

import re
import threading
from typing import Any

from polyprag.augment.prompt import SCHEMA
from polyprag.augment.writing.completions import ReplyError

# What an endpoint may not know, by the words with which it refuses it.
_FORMATS: tuple[dict[str, Any] | None, ...] = (
    {"type": "json_schema", "json_schema": {"name": "questions", "strict": True, "schema": SCHEMA}},
    {"type": "json_object"},
    None,
)
_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "guided", "structured")
_LIMITS = ("max_tokens", "max_completion_tokens")
_HAS_NOT = re.compile(
    r"support|unknown|unrecogni[sz]ed|unexpected|extra|not (?:permitted|allowed|available)|instead"
    r"|only the default|use .?max_",
)


class RequestOptions:
    """The options of a request, less those that this endpoint has refused by their names."""

    def __init__(self, *, has_address: bool) -> None:
        """Begins with all.

        Args:
            has_address: whether it is another endpoint than OpenAI's own.
        """
        limits = _LIMITS if has_address else _LIMITS[::-1]
        self._lock = threading.Lock()
        self._formats, self._limits, self._temperature = list(_FORMATS), list(limits), True

    def now(self, *, temperature: float, limit: int, is_json: bool) -> dict[str, Any]:
        """Returns what to send."""
        with self._lock:
            sent: dict[str, Any] = {name: limit for name in self._limits[:1]}
            if self._temperature:
                sent["temperature"] = temperature
            if is_json and self._formats[0] is not None:
                sent["response_format"] = self._formats[0]
            return sent

    def can_go_without(self, error: ReplyError, sent: dict[str, Any]) -> bool:
        """Leaves away, once for all, an option that a refusal names; tells whether to ask again."""
        if error.status not in (400, 415, 422, 501):
            return False
        words = str(error).lower()
        with self._lock:
            if "response_format" in sent and any(word in words for word in _FORMAT_WORDS):
                if sent["response_format"] == self._formats[0]:
                    self._formats.pop(0)
                return True
            if not _HAS_NOT.search(words):
                return False
            named = [name for name in _LIMITS if name in sent and name in words]
            if named:
                if self._limits and self._limits[0] == named[0]:
                    self._limits.pop(0)
                return True
            if "temperature" in sent and "temperature" in words:
                self._temperature = False
                return True
        return False

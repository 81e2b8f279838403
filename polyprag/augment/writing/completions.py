"""Replies of a chat-completions endpoint: what one said, or whose fault it is that it said nothing.

Servers and the proxies before them fail in many ways, and not all of them by a status. Whatever
isn't a text that a model wrote is a `ReplyError` with the server's own words.
"""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from typing import Any, Protocol

import openai

from polyprag.augment.writing.keep import on_one_line
from polyprag.tokens.thinking import without_thinking

_SHOWN = 300  # characters of a server's words
_PASSES = frozenset((408, 409, 425, 429))  # beside 5xx: statuses that another try may mend
_WRONG_PLACE = frozenset((401, 404, 405, 407, 501))  # of the key, the model or the address
# Of the client's HTTP library, which isn't the same in all its versions.
_UNREACHABLE = frozenset(
    ("ConnectError", "UnsupportedProtocol", "InvalidURL", "LocalProtocolError")
)
_SETTINGS = (  # that a status speaks of
    dict.fromkeys((401, 403, 407), "augment.api_key_env")
    | dict.fromkeys((404, 405, 501), "augment.base_url and augment.model")
    | dict.fromkeys((429, 503, 529), "augment.batch_size and augment.retry_s")
)
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.S | re.I)
_THINKING_PARTS = frozenset(("thinking", "reasoning", "redacted_thinking"))


class HttpReply(Protocol):
    """A response of the client's HTTP library, read to its end."""

    @property
    def status_code(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, found without regard to case."""
        ...

    @property
    def text(self) -> str:
        """The body."""
        ...


class ReplyError(Exception):
    """A request brought no text.

    Attributes:
        passes: whether another try may bring one.
        is_setup: whether it is the key, the model or the address that is wrong, if no request has
            ever brought a text.
        is_refusal: whether the server has refused this very request.
        retry_after_s: how long the server wants to be left alone; None where it doesn't say.
        status: of HTTP; 0 where there was no answer.
    """

    def __init__(
        self,
        words: str,
        *,
        passes: bool = True,
        is_setup: bool = False,
        is_refusal: bool = False,
        retry_after_s: float | None = None,
        status: int = 0,
    ) -> None:
        """Keeps the server's words, on one line."""
        super().__init__(shortened(words))
        self.passes, self.is_setup, self.is_refusal = passes, is_setup, is_refusal
        self.retry_after_s, self.status = retry_after_s, status

    def told(self) -> str:
        """Returns the server's words, with the settings to look at where a status says which."""
        settings = _SETTINGS.get(self.status, "augment.base_url" if self.is_setup else "")
        return f"{self} (see {settings})" if settings else str(self)


def shortened(words: str) -> str:
    """Returns a server's words on one line, without what can't be shown."""
    clean = "".join(c if c.isprintable() else " " for c in words)
    return on_one_line(clean.encode(errors="replace").decode())[:_SHOWN]


def said_in(response: HttpReply, *, max_tokens: int) -> str:
    """Returns what the model said, without its thinking.

    Args:
        response: whole, with a status below 400.
        max_tokens: what was asked for, for the error.

    Raises:
        ReplyError: there is nothing that it said.
    """
    body = response.text
    retry_after_s = wait_asked_for(response.headers)
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        if _is_html(response):
            raise ReplyError(
                f"HTTP {response.status_code} with a web page: {_plain(body)}",
                is_setup=True,
                retry_after_s=retry_after_s,
                status=response.status_code,
            ) from None
        raise ReplyError(
            f"HTTP {response.status_code} with broken JSON: {body or 'nothing'}",
            retry_after_s=retry_after_s,
        ) from None
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ReplyError(
            f"HTTP {response.status_code} without choices: {_words_of(reply)}",
            retry_after_s=retry_after_s,
        )
    return _said(choices[0], reply, max_tokens)


def error_of(error: openai.OpenAIError) -> ReplyError:
    """Returns what an error of the client says of the server."""
    if isinstance(error, openai.APIStatusError):
        response = error.response
        status = response.status_code
        words = _plain(response.text) if _is_html(response) else _words_of(_json(response.text))
        wait_s = wait_asked_for(response.headers)
        wait = f" (asks to wait {wait_s:.0f} s)" if wait_s and wait_s >= 1 else ""
        return ReplyError(
            f"HTTP {status}{wait}: {words or response.reason_phrase}",
            passes=status in _PASSES or (status >= 500 and status not in _WRONG_PLACE),
            is_setup=status in _WRONG_PLACE,
            is_refusal=400 <= status < 500 and status not in _PASSES,
            retry_after_s=wait_s,
            status=status,
        )
    if isinstance(error, openai.APITimeoutError):
        return ReplyError("no reply within augment.request_s")
    cause = error.__cause__ or error
    words = f"{error} {cause}" if cause is not error else str(error)
    is_unreachable = type(cause).__name__ in _UNREACHABLE
    return ReplyError(f"{type(cause).__name__}: {words}", is_setup=is_unreachable)


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Returns for how many seconds a server wants to be left alone; None where it doesn't say."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        if "retry-after" not in headers:
            return None
        value = headers["retry-after"].strip()
        if re.fullmatch(r"[\d.]+", value):
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _said(choice: dict[str, Any], reply: dict[str, Any], max_tokens: int) -> str:
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    content = message.get("content", choice.get("text"))
    said = without_thinking(_joined(content))
    finish = choice.get("finish_reason")
    if said:
        return said
    if finish == "content_filter" or message.get("refusal"):
        raise ReplyError(
            f"refused: {message.get('refusal') or 'content filter'}", passes=False, is_refusal=True
        )
    if "error" in choice or "error" in reply:
        raise ReplyError(f"error in the reply: {_words_of(choice if 'error' in choice else reply)}")
    thought = _joined(content) or message.get("reasoning_content") or message.get("reasoning")
    if _joined(thought).strip():
        cut = f", cut off at augment.max_new_tokens={max_tokens}" if finish == "length" else ""
        raise ReplyError(f"only thinking{cut}: {_joined(thought)}", passes=not cut)
    raise ReplyError(f"a reply without content: {json.dumps(choice)}")


def _joined(content: Any) -> str:
    """Returns a message's text: a string, or a list of parts of which some are text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            _joined(part)
            for part in content
            if not (isinstance(part, dict) and part.get("type") in _THINKING_PARTS)
        )
    if isinstance(content, dict):
        return _joined(content.get("text", content.get("content")))
    return ""


def _json(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _words_of(value: Any) -> str:
    """Returns what an error's JSON says: the innermost message, or all of it."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        for name in ("error", "message", "detail", "errors", "msg"):
            if value.get(name):
                return _words_of(value[name])
    if isinstance(value, list) and len(value) == 1:
        return _words_of(value[0])
    return json.dumps(value, ensure_ascii=False)


def _is_html(response: HttpReply) -> bool:
    kind = response.headers.get("content-type", "")
    return "html" in kind or response.text.lstrip()[:15].lower().startswith(("<!doctype", "<html"))


def _plain(page: str) -> str:
    """Returns a web page's text."""
    return on_one_line(_TAGS.sub(" ", page))

"""The official client against a small server on the loopback interface."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from polyprag.augment.openai import OpenAIWriter
from polyprag.augment.prompt import EMPTY
from polyprag.config import AugmentConfig
from polyprag.endpoint import EndpointError
from polyprag.errors import ConfigError
from sharding.corpus.passages import Passage

PASSAGES = [
    Passage(id=i, key=str(i), title=f"T{i}", text=f"T{i} has number {i}.") for i in range(6)
]


class Endpoint:
    """Answers /v1/chat/completions as `reply(title, request)` says: a text, or a status code."""

    def __init__(self, serve_endpoint: Callable[..., Any]) -> None:
        self.reply: Callable[[str, dict[str, Any]], str | int] = lambda title, request: good(title)
        self._served = serve_endpoint("/v1/chat/completions", self._answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._served, name)

    def _answer(self, body: Any) -> tuple[int, Any]:
        title = re.search(r"title \"(\w+)\"", body["messages"][0]["content"])
        assert title is not None
        said = self.reply(title[1], body)
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        value = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
        if isinstance(said, int):
            return said, value | {"error": {"message": "no"}}
        return 200, value | {"choices": [choice]}


def good(title: str) -> str:
    qa = {"question": f"Which number does {title} have?", "answer": int(title[1:])}
    return json.dumps({"qas": [qa]})


@pytest.fixture
def endpoint(serve_endpoint: Callable[..., Any]) -> Endpoint:
    return Endpoint(serve_endpoint)


def _config(url: str, **settings: Any) -> AugmentConfig:
    wanted: dict[str, Any] = {
        "backend": "openai",
        "model": "m",
        "base_url": url,
        "api_key_env": "TEST_POLYPRAG_KEY",
        "num_rewrites": 0,
        "num_qas": 1,
        "batch_size": 2,
        "max_retries": 1,
    }
    return AugmentConfig(**(wanted | settings))


def test_replies_go_to_their_passages_with_a_bounded_number_at_once(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POLYPRAG_KEY", "the-key")
    written = dict(OpenAIWriter(_config(endpoint.url))(PASSAGES))
    assert [written[i].augmentation.qas[0].answer for i in range(6)] == list("012345")
    assert endpoint.most_at_once <= 2
    assert endpoint.keys == {"Bearer the-key"}
    assert {request["temperature"] for request in endpoint.requests} == {0.0}
    assert {request["max_tokens"] for request in endpoint.requests} == {512}


def test_unusable_replies_are_asked_for_again_and_refused_requests_not(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_POLYPRAG_KEY", raising=False)  # one's own server may want no key

    def reply(title: str, request: dict[str, Any]) -> str | int:
        if title == "T1":
            return "sorry"
        if title == "T2":
            return 400  # a content filter
        return good(title) if title != "T3" or request["temperature"] > 0 else "{}"

    endpoint.reply = reply
    written = dict(OpenAIWriter(_config(endpoint.url))(PASSAGES))
    failed = [i for i in range(6) if written[i].failure]
    assert failed == [1, 2]
    assert [i for i in range(6) if written[i].augmentation == EMPTY] == failed
    assert len(endpoint.requests) == 6 + 2
    assert sorted({request["temperature"] for request in endpoint.requests}) == [0.0, 0.7]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "HTTP 401: no"), (404, "HTTP 404: no"), (400, "HTTP 400: no")]
)
def test_an_endpoint_that_refuses_everything_stops_with_what_to_check(
    endpoint: Endpoint, status: int, kind: str
) -> None:
    endpoint.reply = lambda title, request: status
    with pytest.raises(EndpointError, match=kind) as raised:
        list(OpenAIWriter(_config(endpoint.url))(PASSAGES))
    assert "augment.base_url" in str(raised.value) and "TEST_POLYPRAG_KEY" in str(raised.value)
    assert len(endpoint.requests) <= 6


def test_no_server_is_one_clear_error(endpoint: Endpoint) -> None:
    served = endpoint
    served.server.shutdown()
    served.server.server_close()
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1 gave no usable reply"):
        list(OpenAIWriter(_config(served.url, max_retries=0))(PASSAGES[:1]))


def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_POLYPRAG_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"augment\.model"):
        OpenAIWriter(_config("http://127.0.0.1:9/v1", model=None))
    with pytest.raises(ConfigError, match="TEST_POLYPRAG_KEY"):
        OpenAIWriter(AugmentConfig(backend="openai", model="m", api_key_env="TEST_POLYPRAG_KEY"))


def test_rewrites_come_after_the_questions_and_one_is_for_a_question(endpoint: Endpoint) -> None:
    endpoint.reply = lambda title, request: (
        good(title)
        if "JSON" in request["messages"][0]["content"]
        else f"{title} is the one with the number {title[1:]}, request {len(endpoint.requests)}."
    )
    written = dict(OpenAIWriter(_config(endpoint.url, num_rewrites=3))(PASSAGES[3:4]))
    contents = [request["messages"][0]["content"] for request in endpoint.requests]
    assert len(contents) == 4
    assert "Which number does T3 have?" in contents[3]
    # "request 2" has a number that the passage hasn't, and "request 3" one that it has.
    assert written[0].augmentation.rewrites == ("T3 is the one with the number 3, request 3.",)
    assert [each.reason for each in written[0].dropped] == ["unsupported"] * 2

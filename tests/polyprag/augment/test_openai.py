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

PASSAGES = [Passage(id=i, key=str(i), title=f"T{i}", text=f"Text {i}.") for i in range(6)]


class Endpoint:
    """Answers /v1/chat/completions as `reply(title, request)` says: a text, or a status code."""

    def __init__(self, serve_endpoint: Callable[..., Any]) -> None:
        self.reply: Callable[[str, dict[str, Any]], str | int] = lambda title, request: good(title)
        self._served = serve_endpoint("/v1/chat/completions", self._answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._served, name)

    def _answer(self, body: Any) -> tuple[int, Any]:
        title = re.search(r"Title: (\w+)", body["messages"][0]["content"])
        assert title is not None
        said = self.reply(title[1], body)
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        value = {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
        if isinstance(said, int):
            return said, value | {"error": {"message": "no"}}
        return 200, value | {"choices": [choice]}


def good(title: str) -> str:
    qa = {"question": f"Who is {title}?", "answer": title, "full_answer": f"{title}."}
    return json.dumps({"rewrites": [f"Again {title}."], "qas": [qa]})


@pytest.fixture
def endpoint(serve_endpoint: Callable[..., Any]) -> Endpoint:
    return Endpoint(serve_endpoint)


def _config(url: str, **settings: Any) -> AugmentConfig:
    wanted: dict[str, Any] = {
        "backend": "openai",
        "model": "m",
        "base_url": url,
        "api_key_env": "TEST_POLYPRAG_KEY",
        "num_rewrites": 1,
        "num_qas": 1,
        "batch_size": 2,
        "max_retries": 1,
    }
    return AugmentConfig(**(wanted | settings))


def test_replies_go_to_their_passages_with_a_bounded_number_at_once(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POLYPRAG_KEY", "the-key")
    written = OpenAIWriter(_config(endpoint.url))(PASSAGES)
    assert [each.augmentation.qas[0].answer for _, each in written] == [f"T{i}" for i in range(6)]
    assert endpoint.most_at_once <= 2
    assert endpoint.keys == {"Bearer the-key"}
    assert {request["temperature"] for request in endpoint.requests} == {0.0}
    assert {request["max_tokens"] for request in endpoint.requests} == {512}


def test_unusable_and_refused_passages_are_asked_for_again_then_given_up(
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
    written = [each for _, each in OpenAIWriter(_config(endpoint.url))(PASSAGES)]
    assert [each.failure is not None for each in written] == [
        *(False, True, True, False, False, False)
    ]
    assert [each.augmentation == EMPTY for each in written] == [
        each.failure is not None for each in written
    ]
    assert len(endpoint.requests) == 6 + 3
    assert sorted({request["temperature"] for request in endpoint.requests}) == [0.0, 0.7]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "Authentication"), (404, "NotFound"), (400, "BadRequest")]
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

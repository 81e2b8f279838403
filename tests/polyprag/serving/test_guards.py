"""Who may ask, how much, and what becomes of those who leave, wait or come when it's full."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from polyprag.errors import ConfigError
from polyprag.serving.keys import key_digest, read_keys
from polyprag.serving.limits import RequestLimits
from tests.polyprag.serving.conftest import MakeServer, Serving

BODY = {"model": "wiki:poly", "messages": [{"role": "user", "content": "Where was Anna born?"}]}
LONG = {"model": "wiki", "prompt": "Anna", "max_tokens": 400, "ignore_eos": True}
ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/wiki"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/retrieve"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
]


def until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_every_route_but_the_open_ones_wants_a_key(make_server: MakeServer) -> None:
    server = make_server(key_digests=[key_digest(key.encode()) for key in ("first", "sécond")])
    with httpx.Client(base_url=server.url) as client:
        for path in ("/health", "/ready", "/", "/page/index.html"):
            assert client.get(path).status_code == 200
        for method, path in ROUTES:
            for key in (None, "Bearer wrong", "Bearer", "first", "Basic first", "Bearer firstly"):
                headers = {} if key is None else {"Authorization": key}
                told = client.request(method, path, headers=headers, json=BODY)
                assert told.status_code == 401 and "first" not in told.text
                assert told.json()["error"]["code"] == "invalid_api_key"
        for key in ("first", "sécond"):
            headers = {"Authorization": f"Bearer {key}".encode()}  # type: ignore[dict-item]
            assert client.get("/v1/models", headers=headers).status_code == 200


def test_a_host_that_is_not_this_machine_is_refused_without_keys(make_server: MakeServer) -> None:
    server = make_server(hosts=("localhost", "127.0.0.1", "::1"))
    for host, status in (("localhost:8000", 200), ("[::1]:1", 200), ("evil.example", 421)):
        told = httpx.get(f"{server.url}/v1/models", headers={"Host": host})
        assert told.status_code == status


def test_keys_come_from_a_file_that_only_its_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYPRAG_API_KEYS", "one, two,")
    file = tmp_path / "keys.txt"
    file.write_text("# of the team\nthree\n\n")
    file.chmod(0o600)
    assert read_keys(None) == [key_digest(b"one"), key_digest(b"two")]
    assert read_keys(file) == [key_digest(key) for key in (b"one", b"two", b"three")]
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_keys(file)
    file.chmod(0o600)
    file.write_text("# none\n")
    with pytest.raises(ConfigError, match="has no key"):
        read_keys(file)
    with pytest.raises(ConfigError, match="No such file"):
        read_keys(tmp_path / "nowhere")


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(
    make_server: MakeServer,
) -> None:
    server = make_server(limits=RequestLimits(max_body_bytes=1000))
    url = f"{server.url}/v1/chat/completions"
    told = httpx.post(url, json={**BODY, "user": "x" * 1000})
    assert told.status_code == 413 and "1,000 bytes" in told.json()["error"]["message"]

    def parts() -> "list[bytes]":
        return [b'{"user": "' + b"x" * 400, b"x" * 400, b"x" * 400, b'"}']

    headers = {"Content-Type": "application/json"}
    told = httpx.post(url, content=iter(parts()), headers=headers)
    assert told.status_code == 413 and "1,000 bytes" in told.json()["error"]["message"]
    assert httpx.post(url, json=BODY).status_code == 200


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"model": 3}', b"\xff", b"null", b'{"model": "wiki:poly"}']
)
def test_a_body_that_is_no_request_is_told_so(serving: Serving, content: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/retrieve"):
        told = httpx.post(
            serving.url + path, content=content, headers={"Content-Type": "application/json"}
        )
        assert told.status_code == 400
        assert told.json()["error"]["message"]
    assert httpx.get(serving.url + "/nowhere").json()["error"]["message"] == "Not Found"


def test_beyond_its_room_a_server_says_when_to_come_again(make_server: MakeServer) -> None:
    server = make_server(limits=RequestLimits(max_waiting=2), most=1)
    url = f"{server.url}/v1/completions"
    with ThreadPoolExecutor(2) as pool:
        long = [pool.submit(httpx.post, url, json=LONG, timeout=120) for _ in range(2)]
        until(lambda: "polyprag_waiting 2.0" in httpx.get(f"{server.url}/metrics").text)
        told = httpx.post(url, json=LONG)
        assert told.status_code == 429 and int(told.headers["Retry-After"]) >= 1
        assert told.json()["error"]["code"] == "overloaded"
        assert httpx.post(f"{server.url}/v1/retrieve", json={"query": "Anna"}).status_code == 429
        assert [each.result().status_code for each in long] == [200, 200]
    assert httpx.post(url, json={**LONG, "max_tokens": 1}).status_code == 200
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'polyprag_requests_total{mode="closed",route="completions",status="200"} 3.0' in metrics
    assert 'polyprag_tokens_total{kind="completion"} 801.0' in metrics
    assert "polyprag_waiting 0.0" in metrics and "polyprag_queued 0.0" in metrics
    for histogram, number in (
        ('request_seconds_count{route="completions"}', 3),
        ("time_to_first_token_seconds_count", 3),
        ("time_per_token_seconds_count", 2),
        ("batch_size_count", 3),
    ):
        assert f"polyprag_{histogram} {number}.0" in metrics


@pytest.mark.parametrize("stream", [False, True])
def test_what_nobody_waits_for_any_more_is_not_said(
    make_server: MakeServer, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(most=2)
    body = json.dumps({**LONG, "stream": stream}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: server.engine.decoder.num_running > 0)
    until(lambda: server.engine.decoder.num_running == 0, seconds=5)
    until(lambda: "polyprag_waiting 0.0" in httpx.get(f"{server.url}/metrics").text)
    metrics = httpx.get(f"{server.url}/metrics").text
    assert "polyprag_requests_cancelled_total 1.0" in metrics
    assert 'status="499"' in metrics and 'kind="completion"} 400' not in metrics
    assert not caplog.records  # nobody needs a traceback of it


@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_too_long_is_ended_and_told(make_server: MakeServer, stream: bool) -> None:
    server = make_server(limits=RequestLimits(timeout_s=0.15), most=1)
    told = httpx.post(f"{server.url}/v1/completions", json={**LONG, "stream": stream}, timeout=60)
    assert "longer than this server allows" in told.text
    assert told.status_code == (200 if stream else 504)
    if stream:
        assert told.text.endswith("data: [DONE]\n\n")
    until(lambda: server.engine.decoder.num_running == 0)
    assert 'status="504"' in httpx.get(f"{server.url}/metrics").text


def test_a_failure_of_the_model_is_told_and_others_are_answered(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    decoder = server.engine.decoder
    step, failures = decoder.step, iter([True, True])

    def failing() -> bool:
        if next(failures, False):
            raise RuntimeError("no memory left")
        return step()

    monkeypatch.setattr(decoder, "step", failing)
    url = f"{server.url}/v1/chat/completions"
    told = httpx.post(url, json=BODY)
    assert told.status_code == 500 and "RuntimeError" in told.json()["error"]["message"]
    assert "no memory" not in told.text  # what is inside isn't told to clients
    stream = httpx.post(url, json={**BODY, "stream": True})
    assert stream.status_code == 200 and '"server_error"' in stream.text
    assert httpx.post(url, json=BODY).status_code == 200


def test_slow_readers_hold_nobody_up(make_server: MakeServer) -> None:
    server = make_server(most=4)
    body = {**LONG, "stream": True}
    ended = threading.Event()

    def read_slowly() -> int:
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as told:
            lines = 0
            for _ in told.iter_lines():
                lines += 1
                ended.wait(0.02)
            return lines

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(read_slowly)
        until(lambda: server.engine.decoder.num_running > 0)
        assert httpx.post(f"{server.url}/v1/chat/completions", json=BODY).status_code == 200
        ended.set()
        assert slow.result() > 100


def test_requests_that_come_and_go_leave_nothing_behind(make_server: MakeServer) -> None:
    server = make_server(most=4)

    async def come_and_go() -> None:
        async with httpx.AsyncClient(base_url=server.url) as client:

            async def one(at: int) -> None:
                body = {**LONG, "stream": at % 2 == 0}
                with contextlib.suppress(httpx.TimeoutException):
                    await client.post("/v1/completions", json=body, timeout=0.01 * (at % 7 + 1))

            await asyncio.gather(*map(one, range(40)))

    asyncio.run(come_and_go())
    decoder = server.engine.decoder
    until(lambda: decoder.num_running == decoder.num_waiting == 0)
    until(lambda: "polyprag_waiting 0.0" in httpx.get(f"{server.url}/metrics").text)
    assert httpx.post(f"{server.url}/v1/chat/completions", json=BODY).status_code == 200

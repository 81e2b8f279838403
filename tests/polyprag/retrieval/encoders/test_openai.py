"""The official client against a small server on the loopback interface."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyprag.config import Config, IndexConfig
from polyprag.errors import ConfigError, PolypragError
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.encoders.choice import fit_encoder, saved_encoder
from polyprag.retrieval.encoders.openai import EndpointError, OpenAIEncoder
from polyprag.retrieval.search import Index
from sharding.ingest.prepare import prepare

DIMS = 6
TEXTS = [f"text number {i}" for i in range(23)]


def vector_of(text: str) -> list[float]:
    """Another one for each text, of no particular length."""
    digest = hashlib.sha256(text.encode()).digest()
    return [round(byte / 64 - 2, 3) for byte in digest[:DIMS]]


def reply_of(texts: list[str]) -> Any:
    return [{"index": i, "embedding": vector_of(text)} for i, text in enumerate(texts)]


class Endpoint:
    """Answers /v1/embeddings as `reply(texts)` says: the data, or a status code."""

    def __init__(self, serve_endpoint: Callable[..., Any]) -> None:
        self.reply: Callable[[list[str]], Any] = reply_of
        self._served = serve_endpoint("/v1/embeddings", self._answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._served, name)

    def _answer(self, body: Any) -> tuple[int, Any]:
        said = self.reply(body["input"])
        if isinstance(said, tuple):
            status, message = said
            return status, {"error": {"message": message}}
        if isinstance(said, int):
            return said, {"error": {"message": "no"}}
        return 200, {"object": "list", "data": said}


@pytest.fixture
def endpoint(serve_endpoint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("TEST_POLYPRAG_KEY", "the-key")
    return Endpoint(serve_endpoint)


def encoder_of(endpoint: Endpoint, **settings: Any) -> OpenAIEncoder:
    wanted: dict[str, Any] = {
        "base_url": endpoint.url,
        "api_key_env": "TEST_POLYPRAG_KEY",
        "batch_size": 5,
        "normalize": False,
    }
    return OpenAIEncoder("m", **(wanted | settings))


def config_of(endpoint: Endpoint, **index: Any) -> Config:
    return Config(
        index=IndexConfig(
            encoder="openai",
            encoder_path="m",
            base_url=endpoint.url,
            api_key_env="TEST_POLYPRAG_KEY",
            **index,
        )
    )


def test_vectors_go_to_their_texts_in_batches_with_a_few_requests_at_once(
    endpoint: Endpoint,
) -> None:
    vectors = encoder_of(endpoint).encode(TEXTS)
    np.testing.assert_array_equal(vectors, np.float32([vector_of(text) for text in TEXTS]))
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous
    sizes = sorted(len(request["input"]) for request in endpoint.requests)
    assert sizes == [1, 3, 5, 5, 5, 5]  # the first one asks for the vectors' size
    assert {request["model"] for request in endpoint.requests} == {"m"}
    assert 1 < endpoint.most_at_once <= 4
    assert endpoint.keys == {"Bearer the-key"}


def test_normalised_vectors_have_length_one(endpoint: Endpoint) -> None:
    vectors = encoder_of(endpoint, normalize=True).encode(TEXTS)
    expected = np.float32([vector_of(text) for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_a_reply_in_another_order_is_put_in_order_by_its_numbers(endpoint: Endpoint) -> None:
    endpoint.reply = lambda texts: reply_of(texts)[::-1]
    expected = np.float32([vector_of(text) for text in TEXTS])
    np.testing.assert_array_equal(encoder_of(endpoint).encode(TEXTS), expected)


def test_a_reply_in_base64_is_read_too(endpoint: Endpoint) -> None:
    def reply(texts: list[str]) -> Any:
        data = [base64.b64encode(np.float32(vector_of(t)).tobytes()).decode() for t in texts]
        return [{"index": i, "embedding": text} for i, text in enumerate(data)]

    endpoint.reply = reply
    expected = np.float32([vector_of(text) for text in TEXTS])
    np.testing.assert_array_equal(encoder_of(endpoint).encode(TEXTS), expected)


def test_blank_texts_are_zero_and_not_sent(endpoint: Endpoint) -> None:
    vectors = encoder_of(endpoint, dims=DIMS).encode(["", "a", " \n"])
    assert not vectors[0].any() and not vectors[2].any()
    np.testing.assert_array_equal(vectors[1], np.float32(vector_of("a")))
    assert [request["input"] for request in endpoint.requests] == [["a"]]
    assert encoder_of(endpoint, dims=DIMS).encode([]).shape == (0, DIMS)


def test_a_request_that_fails_on_the_way_is_sent_again(endpoint: Endpoint) -> None:
    failed = set()

    def reply(texts: list[str]) -> Any:
        if texts[0] not in failed:
            failed.add(texts[0])
            return 500 if len(failed) % 2 else 429
        return reply_of(texts)

    endpoint.reply = reply
    expected = np.float32([vector_of(text) for text in TEXTS])
    np.testing.assert_array_equal(encoder_of(endpoint, dims=DIMS).encode(TEXTS), expected)
    assert len(endpoint.requests) == 2 * 5


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "Authentication"), (404, "NotFound"), (400, "BadRequest")]
)
def test_an_endpoint_that_refuses_stops_with_what_to_check(
    endpoint: Endpoint, status: int, kind: str
) -> None:
    endpoint.reply = lambda texts: status
    with pytest.raises(EndpointError, match=kind) as raised:
        encoder_of(endpoint, dims=DIMS).encode(TEXTS)
    said = str(raised.value)
    assert "index.base_url" in said and "$TEST_POLYPRAG_KEY" in said and "the-key" not in said
    assert len(endpoint.requests) <= 5


def one(**changes: Any) -> Callable[[list[str]], Any]:
    """Replies whose first vector is another one."""
    return lambda texts: [reply_of(texts)[0] | changes, *reply_of(texts)[1:]]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda texts: reply_of(texts)[1:], "4 vectors for 5 texts"),
        (lambda texts: reply_of([*texts, "more"]), "6 vectors for 5 texts"),
        (lambda texts: [], "not a list of embeddings"),
        (lambda texts: "none", "no usable vectors"),
        (lambda texts: None, "no usable vectors"),
        (one(index=1), "misnumbered"),
        (one(index=[]), "no usable vectors"),
        (one(embedding=[1.0] * (DIMS - 1)), "not a list of numbers"),
        (one(embedding=None), "no usable vectors"),
        (one(embedding=["a"] * DIMS), "not a list of numbers"),
        (one(embedding="a"), "no usable vectors"),
        (one(embedding=[float("nan")] * DIMS), "infinite or undefined"),
        (one(embedding=[1e300] * DIMS), "infinite or undefined"),
        (one(embedding=[0.0] * DIMS), "a vector is zero"),
        (lambda texts: [{"index": i, "embedding": [1.0]} for i in range(len(texts))], "shape"),
        (lambda texts: [{"index": i, "embedding": []} for i in range(len(texts))], "shape"),
        (lambda texts: [{"index": i, "embedding": 1.0} for i in range(len(texts))], "shape"),
    ],
)
def test_a_reply_that_is_not_one_vector_for_each_text_is_refused(
    endpoint: Endpoint, reply: Callable[[list[str]], Any], said: str
) -> None:
    endpoint.reply = reply
    with pytest.raises(EndpointError, match=said):
        encoder_of(endpoint, dims=DIMS).encode(TEXTS[:5])


def test_no_server_is_one_clear_error(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyprag.retrieval.encoders.openai._MAX_RETRIES", 0)
    gone = endpoint
    gone.server.shutdown()
    gone.server.server_close()
    with pytest.raises(PolypragError, match=r"127\.0\.0\.1 gave no usable vectors"):
        assert encoder_of(gone).dims


def test_openais_own_endpoint_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_POLYPRAG_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"index\.api_key_env='TEST_POLYPRAG_KEY'"):
        OpenAIEncoder("m", base_url=None, api_key_env="TEST_POLYPRAG_KEY", batch_size=1)


def test_it_is_saved_without_the_key_and_opened_without_a_request(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    config = config_of(endpoint, query_prefix="q: ", passage_prefix="p: ")
    fitted = fit_encoder(tmp_path, [], config)
    assert b"the-key" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    num_requests = len(endpoint.requests)
    again = saved_encoder(tmp_path)
    assert again.dims == fitted.dims == DIMS
    assert len(endpoint.requests) == num_requests
    expected = np.float32([vector_of("p: a\nb"), vector_of("q: c")])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(again.encode_passages([("a", "b")]), expected[:1], atol=1e-6)
    np.testing.assert_allclose(again.encode_queries(["c"]), expected[1:], atol=1e-6)


def test_an_index_finds_a_passage_by_its_own_text(
    endpoint: Endpoint,
    tmp_path: Path,
    make_corpus_run: Callable[[Path], Path],
    titled_texts: list[tuple[str, str]],
) -> None:
    run = make_corpus_run(tmp_path / "run")
    build_index(run, config_of(endpoint))
    title, text = titled_texts[12]
    hits = Index.open(run).search([f"{title}\n{text}"], k=1, method="dense")[0]
    assert hits.ids.tolist() == [12]
    assert not any(b"the-key" in path.read_bytes() for path in run.rglob("*") if path.is_file())


WINDOW = 100  # characters that the server's model reads


def refusing(texts: list[str]) -> Any:
    """As vLLM and its like: the whole request is refused for one text."""
    if any(len(text) > WINDOW for text in texts):
        return 400, "This model's maximum context length is 25 tokens, you requested more"
    return reply_of(texts)


def test_a_text_that_the_endpoint_finds_too_long_is_cut_and_the_others_are_whole(
    endpoint: Endpoint,
) -> None:
    endpoint.reply = refusing
    texts = [*TEXTS[:7], "x" * 900, *TEXTS[7:], "y" * 101]
    encoder = encoder_of(endpoint, dims=DIMS, max_tokens=24)  # 96 characters
    expected = [*TEXTS[:7], "x" * 96, *TEXTS[7:], "y" * 70]  # .7 of 101
    np.testing.assert_array_equal(
        encoder.encode(texts), np.float32([vector_of(text) for text in expected])
    )
    assert list(encoder.cut) == [7, 24]
    encoder.encode(TEXTS[:2])
    assert list(encoder.cut) == []


def test_a_text_is_cut_again_where_its_script_needs_more_tokens(endpoint: Endpoint) -> None:
    endpoint.reply = refusing
    encoder = encoder_of(endpoint, dims=DIMS, max_tokens=50)  # 200, 140, 98 characters
    np.testing.assert_array_equal(encoder.encode(["x" * 900]), np.float32([vector_of("x" * 98)]))


def test_a_refusal_that_cutting_does_not_mend_names_the_text(endpoint: Endpoint) -> None:
    endpoint.reply = lambda texts: (
        (400, "token is malformed") if "bad" in texts[-1] else reply_of(texts)
    )
    with pytest.raises(EndpointError, match="token is malformed, of the text 'a bad text'"):
        encoder_of(endpoint, dims=DIMS).encode([*TEXTS[:4], "a bad text"])


def test_a_build_goes_on_past_a_long_passage_and_names_it(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.reply = refusing
    rows = [{"id": f"k{i}", "title": f"T{i}", "text": "short text"} for i in range(9)]
    rows[6]["text"] = "long text " * 40
    source = tmp_path / "passages.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    prepare([str(source)], tmp_path / "run" / "corpus", partition_size=4)
    notes: list[str] = []
    build_index(tmp_path / "run", config_of(endpoint, max_tokens=20), say=notes.append)
    (note,) = notes
    assert note.startswith("1 passages are longer than the embeddings endpoint takes")
    assert "passage 'k6' ('T6: long text" in note
    hits = Index.open(tmp_path / "run").search(
        ["T6\n" + ("long text " * 40)[:77]], k=1, method="dense"
    )
    assert hits[0].ids.tolist() == [6]  # 20 tokens are 80 characters, with title and line break

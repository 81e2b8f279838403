"""A server that fails in every way that servers do: none of it ends as success, or goes unsaid."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from polyprag.augment.corpus import OpenPassagesError, augment_corpus
from polyprag.augment.openai import OpenAIWriter
from polyprag.augment.prompt import EMPTY
from polyprag.augment.written import Written
from polyprag.config import AugmentConfig, Config
from polyprag.endpoint import EndpointError
from sharding.corpus.passages import QA, Augmentation, Passage
from sharding.corpus.reader import Corpus
from sharding.ingest.prepare import prepare

CITIES = ("Oslo", "Lima", "Cairo", "Kyoto", "Quito", "Turin")
PASSAGES = [
    Passage(id=i, key=str(i), title=f"Ada{i}", text=f"Ada{i} was born in {city}.")
    for i, city in enumerate(CITIES)
]


@dataclass
class Answer:
    """What goes over the wire; `cut`: fewer bytes than were announced."""

    body: bytes | str | dict[str, Any]
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    pause_s: float = 0.0


def said(content: Any, *, finish: str = "stop", **message: Any) -> Answer:
    told = {"role": "assistant", "content": content} | message
    choice = {"index": 0, "message": told, "finish_reason": finish}
    return Answer({"id": "c", "object": "chat.completion", "choices": [choice]})


def items(number: int) -> str:
    qa = {"question": f"Where was Ada{number} born?", "answer": CITIES[number]}
    return json.dumps({"qas": [qa]})


def good(number: int) -> Answer:
    return said(items(number))


class Server:
    """Answers requests about passage n as `reply(n, how many came before about it)` says."""

    def __init__(self) -> None:
        self.reply: Callable[[int, int], Answer] = lambda number, before: good(number)
        self.requests: list[tuple[int, float, dict[str, Any]]] = []
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                found = re.search(r"title \"Ada(\d)\"", body["messages"][0]["content"])
                assert found is not None
                number = int(found[1])
                with lock:
                    before = sum(each[0] == number for each in server.requests)
                    server.requests.append((number, time.monotonic(), body))
                self._send(server.reply(number, before))

            def _send(self, answer: Answer) -> None:
                time.sleep(answer.pause_s)
                body = answer.body
                if isinstance(body, dict):
                    body = json.dumps(body)
                data = body.encode() if isinstance(body, str) else body
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(data) + (100 if answer.cut else 0)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                if answer.cut:
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("polyprag.augment.openai._FIRST_WAIT_S", 0.001)
    with ExitStack() as closing:
        made = Server()
        closing.callback(made.server.server_close)
        closing.callback(made.server.shutdown)
        yield made


def config(server: Server, **settings: Any) -> AugmentConfig:
    wanted: dict[str, Any] = {
        "backend": "openai",
        "model": "m",
        "base_url": server.url,
        "api_key_env": "TEST_POLYPRAG_NO_KEY",
        "num_rewrites": 0,
        "num_qas": 1,
        "batch_size": 1,
        "max_retries": 2,
        "request_s": 5.0,
    }
    return AugmentConfig(**(wanted | settings))


def written_by(writer: OpenAIWriter, passages: list[Passage] = PASSAGES) -> list[Written]:
    found = dict(writer(passages))
    assert sorted(found) == list(range(len(passages)))
    return [found[i] for i in range(len(passages))]


# What it sends, and what of it the failure must say.
FAULTS: dict[str, tuple[Answer, str]] = {
    "error_body": (Answer({"error": {"message": "no GPU left", "code": 500}}), "no GPU left"),
    "error_text": (Answer({"detail": "queue is full"}), "queue is full"),
    "null_content": (said(None), "without content"),
    "empty_content": (said(""), "without content"),
    "blank_content": (said(" \n"), "without content"),
    "no_message": (Answer({"choices": [{"index": 0}]}), "without content"),
    "null_body": (Answer("null"), "without choices"),
    "no_choices": (Answer({"choices": []}), "without choices"),
    "null_choices": (Answer({"choices": None, "error": "worker died"}), "worker died"),
    "choices_of_text": (Answer({"choices": ["x"]}), "without choices"),
    "html": (Answer("<html><title>Welcome to nginx</title>", kind="text/html"), "nginx"),
    "html_as_json": (Answer("<!DOCTYPE html><p>Log in</p>"), "Log in"),
    "broken_json": (Answer('{"choices": [{"mess'), "broken JSON"),
    "empty_body": (Answer(""), "broken JSON"),
    "not_utf8": (Answer(b"\xff\xfe\x00"), "broken JSON"),
    "parts_without_text": (said([{"type": "image_url", "image_url": "x"}]), "without content"),
    "parts_of_thinking": (said([{"type": "thinking", "thinking": "hm"}]), "without content"),
    "unclosed_thinking": (said("<think>Ada was born in"), "only thinking"),
    "closed_thinking": (said("<think>Ada.</think>\n"), "only thinking"),
    "reasoning_alone": (said(None, reasoning_content="Let me see"), "only thinking: Let me see"),
    "cut_thinking": (
        said("<think>So", finish="length"),
        "only thinking, cut off at augment.max_new_tokens=512",
    ),
    "refusal": (said(None, refusal="I won't"), "refused: I won't"),
    "content_filter": (said("", finish="content_filter"), "refused: content filter"),
    "no_json_in_content": (said("Sorry, I can't do that."), "Sorry, I can't do that."),
    "error_in_content": (said('{"error": "upstream timed out"}'), "upstream timed out"),
    "no_items": (said('{"qas": []}'), "nothing of what was asked for"),
    "429": (
        Answer({"error": {"message": "slow down"}}, 429, headers={"retry-after-ms": "1"}),
        "HTTP 429: slow down (see augment.batch_size and augment.retry_s)",
    ),
    "503": (Answer("upstream connect error", 503, "text/plain"), "HTTP 503: upstream connect"),
    "503_html": (Answer("<html><h1>Bad gateway</h1>", 502, "text/html"), "HTTP 502: Bad gateway"),
    "500": (Answer({"error": "CUDA out of memory"}, 500), "HTTP 500: CUDA out of memory"),
    "500_empty": (Answer("", 500), "HTTP 500: Internal Server Error"),
    "403": (Answer({"error": {"message": "moderated"}}, 403), "HTTP 403: moderated"),
    "400": (Answer({"error": {"message": "content policy"}}, 400), "HTTP 400: content policy"),
    "401": (
        Answer({"error": {"message": "key revoked"}}, 401),
        "HTTP 401: key revoked",
    ),
    "404": (
        Answer({"error": {"message": "no model m"}}, 404),
        "HTTP 404: no model m",
    ),
    "501": (Answer("Unsupported method", 501, "text/plain"), "HTTP 501"),
    "cut": (Answer('{"choices": [', cut=True), "RemoteProtocolError"),
    "silent": (Answer("{}", pause_s=0.6), "no reply within augment.request_s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_ends_as_success(server: Server, fault: str) -> None:
    answer, words = FAULTS[fault]
    server.reply = lambda number, before: answer if number == 2 else good(number)
    short = {"request_s": 0.3, "max_retries": 1} if fault == "silent" else {}
    written = written_by(OpenAIWriter(config(server, **short)))
    assert written[2].augmentation == EMPTY
    assert words in (written[2].failure or "")
    assert "\n" not in (written[2].failure or "")
    for number in (0, 1, 3, 4, 5):
        assert written[number].failure is None
        assert [qa.answer for qa in written[number].augmentation.qas] == [CITIES[number]]


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"silent"}))
def test_an_outage_from_the_start_is_no_success_either(server: Server, fault: str) -> None:
    answer, words = FAULTS[fault]
    server.reply = lambda number, before: answer
    writer, found = OpenAIWriter(config(server)), dict[int, Written]()
    try:
        found.update(writer(PASSAGES))
    except EndpointError as error:
        assert words in str(error) and "augment.base_url" in str(error)
    else:
        assert len(found) == len(PASSAGES)
    assert all(each.failure and each.augmentation == EMPTY for each in found.values())


@pytest.mark.parametrize("fault", ["401", "404", "501", "html", "html_as_json"])
def test_a_wrong_key_model_or_address_ends_at_once(server: Server, fault: str) -> None:
    server.reply = lambda number, before: FAULTS[fault][0]
    with pytest.raises(EndpointError, match=r"augment\.base_url"):
        list(OpenAIWriter(config(server))(PASSAGES))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault", ["error_body", "null_content", "html", "broken_json", "503", "429", "cut", "no_items"]
)
def test_what_passes_is_asked_for_again(server: Server, fault: str) -> None:
    server.reply = lambda number, before: (
        FAULTS[fault][0] if number and before < 2 else good(number)
    )
    written = written_by(OpenAIWriter(config(server)), PASSAGES[:2])
    assert [each.failure for each in written] == [None, None]
    assert [each.augmentation.qas[0].answer for each in written] == ["Oslo", "Lima"]
    assert [number for number, _, _ in server.requests] == [0, 1, 1, 1]


def test_the_wait_that_a_server_asks_for_is_kept_and_bounded(server: Server) -> None:
    slow = Answer({"error": "slow down"}, 429, headers={"Retry-After": "1"})
    server.reply = lambda number, before: slow if number and not before else good(number)
    written = written_by(OpenAIWriter(config(server)), PASSAGES[:2])
    assert written[1].failure is None
    assert server.requests[2][1] - server.requests[1][1] >= 1.0
    server.requests.clear()
    hour = Answer({"error": "quota"}, 429, headers={"Retry-After": "3600"})
    server.reply = lambda number, before: hour
    (one,) = written_by(OpenAIWriter(config(server)), PASSAGES[:1])
    assert one.failure == (
        "HTTP 429 (asks to wait 3600 s): quota (see augment.batch_size and augment.retry_s)"
    )
    assert len(server.requests) == 1


def test_content_in_parts_and_after_thinking_is_read(server: Server) -> None:
    text = items(1)
    parts = [
        {"type": "thinking", "thinking": "hm {"},
        {"type": "text", "text": text[:20]},
        {"type": "output_text", "text": text[20:]},
    ]
    ways = {
        0: said('<think>\nIs it {"qas": []}?\n</think>\n' + items(0)),
        1: said(parts),
        2: said("I should answer {}.</think>" + items(2)),
        3: Answer({"choices": [{"index": 0, "text": items(3), "finish_reason": "stop"}]}),
        4: said("Sure!\n```json\n" + items(4) + "\n```", finish="length"),
        5: said({"type": "text", "text": items(5)}),
    }
    server.reply = lambda number, before: ways[number]
    written = written_by(OpenAIWriter(config(server)))
    assert [each.augmentation.qas[0].answer for each in written] == list(CITIES)
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("fault", "settings"),
    [("401", "augment.api_key_env"), ("404", "augment.base_url and augment.model")],
)
def test_a_failure_names_the_settings_to_look_at(server: Server, fault: str, settings: str) -> None:
    answer, words = FAULTS[fault]
    server.reply = lambda number, before: answer if number == 1 else good(number)
    written = written_by(OpenAIWriter(config(server, batch_size=1)), PASSAGES[:2])
    assert written[1].failure == f"{words} (see {settings})"


def test_after_failures_in_a_row_nothing_more_is_asked(server: Server) -> None:
    down = Answer("no healthy upstream", 503, "text/plain")
    server.reply = lambda number, before: good(number) if number == 0 else down
    writer = OpenAIWriter(config(server, give_up_after=2, max_retries=0))
    written = written_by(writer)
    assert [number for number, _, _ in server.requests] == [0, 1, 2]
    assert [each.failure is None for each in written] == [True] + [False] * 5
    assert written[5].failure == (
        "not asked: the endpoint failed 2 times in a row, at last with HTTP 503: no healthy "
        "upstream (see augment.batch_size and augment.retry_s)"
    )
    assert all(each.failure for each in written_by(writer, PASSAGES[3:]))  # the next partition
    assert len(server.requests) == 3


def test_waits_end_when_the_endpoint_is_given_up(server: Server) -> None:
    wait = Answer("busy", 503, "text/plain", headers={"Retry-After": "300"})
    down = Answer("down", 500, "text/plain")
    server.reply = lambda number, before: wait if number == 0 else down
    settings = config(server, give_up_after=1, max_retries=1, batch_size=2, retry_s=1e6)
    server.reply = lambda number, before: (
        wait if number == 0 else Answer("down", 500, "text/plain", pause_s=0.2)
    )
    written = written_by(OpenAIWriter(settings), PASSAGES[:3])  # would take 300 s
    assert [bool(each.failure) for each in written] == [True] * 3


def test_options_that_an_endpoint_has_not_are_left_away_once_for_all(server: Server) -> None:
    def reply(number: int, before: int) -> Answer:
        body = server.requests[-1][2]
        if body.get("response_format", {}).get("type") == "json_schema":
            return Answer({"error": {"message": "response_format json_schema unknown"}}, 400)
        if "response_format" in body:
            return Answer({"detail": "extra field: response_format"}, 422)
        if "max_tokens" in body:
            return Answer({"error": {"message": "use max_completion_tokens not max_tokens"}}, 400)
        if "temperature" in body:
            return Answer({"error": {"message": "'temperature' isn't supported"}}, 400)
        return good(number)

    server.reply = reply
    written = written_by(OpenAIWriter(config(server)))
    assert [each.failure for each in written] == [None] * 6
    assert len(server.requests) == 4 + 6
    assert server.requests[-1][2].keys() == {"model", "messages", "max_completion_tokens"}


def test_a_passage_that_is_too_long_for_the_model_is_cut_and_no_option_is_lost(
    server: Server,
) -> None:
    def reply(number: int, before: int) -> Answer:
        if len(server.requests[-1][2]["messages"][0]["content"]) < 3000:
            return good(number)
        words = "maximum context length is 900 tokens, but 512 are for the reply (max_tokens)"
        return Answer({"error": {"message": words}}, 400)

    server.reply = reply
    long = Passage(id=1, key="1", title="Ada1", text=PASSAGES[1].text + " She slept." * 2000)
    (one,) = written_by(OpenAIWriter(config(server)), [long])
    assert [qa.answer for qa in one.augmentation.qas] == ["Lima"]
    assert all("max_tokens" in body for _, _, body in server.requests)


def test_questions_are_asked_for_with_a_schema(server: Server) -> None:
    written_by(OpenAIWriter(config(server)), PASSAGES[:1])
    sent = server.requests[0][2]["response_format"]
    assert sent["type"] == "json_schema" and sent["json_schema"]["strict"] is True
    assert written_by(OpenAIWriter(config(server)), PASSAGES[:1])[0].augmentation.qas == (
        QA("Where was Ada0 born?", "Oslo", "Oslo"),
    )


def test_what_came_before_a_failure_is_in_what_is_written(server: Server) -> None:
    def reply(number: int, before: int) -> Answer:
        return good(number) if before == 0 else Answer("down", 500, "text/plain")

    server.reply = reply
    (one,) = written_by(OpenAIWriter(config(server, num_rewrites=1)), PASSAGES[:1])
    assert one.failure == "HTTP 500: down"
    assert [qa.answer for qa in one.augmentation.qas] == ["Oslo"]


REFUSED = Answer({"error": {"message": "no GPU left"}}, 400)
REWRITE = "The birthplace of Ada{} was the city of {}, where she was born."


@pytest.fixture
def run(tmp_path: Path) -> Path:
    source = tmp_path / "passages.jsonl"
    lines = [{"id": p.key, "title": p.title, "text": p.text} for p in PASSAGES[:3]]
    source.write_text("\n".join(map(json.dumps, lines)))
    prepare([str(source)], tmp_path / "run" / "corpus", partition_size=8)
    return tmp_path / "run"


def is_rewrite(body: dict[str, Any]) -> bool:
    return "JSON object" not in body["messages"][0]["content"]


def answers(server: Server, *, refused: set[int], rewrites_refused: set[int]) -> None:
    """Makes the server answer questions and rewrites, but for those of some passages."""

    def reply(number: int, before: int) -> Answer:
        body = server.requests[-1][2]
        if number in (rewrites_refused if is_rewrite(body) else refused):
            return REFUSED
        city = PASSAGES[number].text.split()[-1].rstrip(".")
        return said(REWRITE.format(number, city)) if is_rewrite(body) else good(number)

    server.reply = reply


def augmentations(run: Path) -> list[Augmentation | None]:
    return [record.augmentation for record in Corpus.open(run / "corpus").iterate()]


def test_only_what_is_missing_is_asked_for_again(server: Server, run: Path) -> None:
    settings = Config(augment=config(server, num_rewrites=1))
    answers(server, refused={2}, rewrites_refused={1})
    with pytest.raises(OpenPassagesError, match="2 of 3 passages are open"):
        augment_corpus(run, settings)
    assert [each is None for each in augmentations(run)] == [False, True, True]
    server.requests.clear()
    answers(server, refused=set(), rewrites_refused=set())
    augment_corpus(run, settings)
    asked = sorted((number, is_rewrite(body)) for number, _, body in server.requests)
    assert asked == [(1, True), (2, False), (2, True)]
    found = augmentations(run)
    assert all(each and len(each.qas) == len(each.rewrites) == 1 for each in found)
    again = augment_corpus(run, settings)  # nothing waits any more
    assert again.augmentation is not None and len(server.requests) == 3


def test_passages_that_are_refused_again_are_open_and_no_wrong_setup(
    server: Server, run: Path
) -> None:
    settings = Config(augment=config(server))
    answers(server, refused={1, 2}, rewrites_refused=set())
    for _ in range(2):  # the second command hears refusals alone
        with pytest.raises(OpenPassagesError, match=r"2 of 3 .* no GPU left") as raised:
            augment_corpus(run, settings)
        assert raised.value.exit_status == 75


def test_a_key_that_is_wrong_later_is_told_unless_it_is_let_go(server: Server, run: Path) -> None:
    settings = Config(augment=config(server))
    answers(server, refused={1}, rewrites_refused=set())
    with pytest.raises(OpenPassagesError):
        augment_corpus(run, settings)
    server.reply = lambda number, before: Answer({"error": {"message": "bad key"}}, 401)
    with pytest.raises(EndpointError, match="bad key"):
        augment_corpus(run, settings)
    with pytest.raises(OpenPassagesError, match="bad key"):
        augment_corpus(run, settings, lets_go=True)


def test_all_partitions_are_written_where_an_outage_is_let_go(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyprag.augment.corpus._OUTAGE", 1)
    source = tmp_path / "passages.jsonl"
    lines = [{"id": p.key, "title": p.title, "text": p.text} for p in PASSAGES[:3]]
    source.write_text("\n".join(map(json.dumps, lines)))
    prepare([str(source)], tmp_path / "run" / "corpus", partition_size=1)
    server.reply = lambda number, before: Answer({"error": {"message": "bad key"}}, 401)
    with pytest.raises(OpenPassagesError):
        augment_corpus(tmp_path / "run", Config(augment=config(server)), lets_go=True)
    partitions = Corpus.open(tmp_path / "run" / "corpus").manifest.partitions
    assert [part.augmented for part in partitions] == [True] * 3


def test_a_failure_in_the_midst_says_how_far_it_came(server: Server) -> None:
    answers(server, refused=set(), rewrites_refused={0})
    settings = config(server, num_rewrites=1)
    ((_, one),) = OpenAIWriter(settings)(PASSAGES[:1])
    assert (one.asked, len(one.augmentation.qas)) == (1, 1) and one.failure
    server.requests.clear()
    answers(server, refused=set(), rewrites_refused=set())
    ((_, whole),) = OpenAIWriter(settings)(PASSAGES[:1], {0: one})
    assert [is_rewrite(body) for _, _, body in server.requests] == [True]
    assert whole.failure is None and whole.augmentation.qas == one.augmentation.qas

"""One engine for requests of all kinds, against answering them one by one."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polyprag
from polyprag.answering import preparation
from polyprag.answering.answerer import Answerer
from polyprag.answering.engine import Engine
from polyprag.answering.modes import Mode
from polyprag.answering.request import Request
from polyprag.config import Config
from polyprag.decoding.sampling import Sampling
from polyprag.errors import RequestError, RunError
from polyprag.method.prompts import Message
from polyprag.method.window import QuestionTooLongError
from sharding.change.keys import ids_of_keys
from sharding.corpus.reader import Corpus

MODES: tuple[Mode, ...] = ("closed", "rag", "poly", "combine")
QUESTIONS = [f"Where was {name} Smith born?" for name in ("Anna", "Boris", "Carla", "Dario")]


@pytest.fixture(scope="module")
def answerer(encoded_run: tuple[Path, Config]) -> Answerer:
    return Answerer.open(*encoded_run)


@pytest.fixture
def engine(answerer: Answerer, encoded_run: tuple[Path, Config]) -> Iterator[Engine]:
    with Engine(answerer, run_dir=encoded_run[0]) as made:
        yield made


def test_all_modes_in_one_batch_say_what_each_question_alone_is_answered(
    engine: Engine, answerer: Answerer
) -> None:
    asked = [(question, mode) for question in QUESTIONS for mode in MODES]
    answers = engine.generate([Request(question=q, mode=mode) for q, mode in asked])
    assert len({answer.text for answer in answers}) > 8
    for answer, (question, mode) in zip(answers, asked, strict=True):
        (alone,) = answerer.answer([question], mode=mode)
        assert (answer.text, answer.mode) == (alone.text, mode)
        assert answer.trust is not None and alone.trust is not None
        assert answer.trust.confidence == pytest.approx(alone.trust.confidence, abs=1e-4)
        if mode != "closed":
            assert answer.hits is not None and alone.hits is not None
            assert answer.hits.ids.tolist() == alone.hits.ids.tolist()
        assert (answer.gates is None) == (mode in ("closed", "rag"))
        if answer.gates is not None and alone.gates is not None:
            np.testing.assert_allclose(answer.gates, alone.gates, atol=1e-6)


def test_threads_that_ask_at_once_get_answers_of_their_own(
    engine: Engine, answerer: Answerer
) -> None:
    asked = [(question, mode) for question in QUESTIONS for mode in MODES] * 3
    barrier = threading.Barrier(8)

    def ask(one: tuple[str, Mode]) -> str:
        if one in asked[:8]:
            barrier.wait(timeout=60)
        return engine.ask(one[0], mode=one[1]).text

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(ask, asked[:8] + asked[8:16]))
    for text, (question, mode) in zip(said, asked, strict=False):
        assert text == answerer.answer([question], mode=mode)[0].text


def test_passages_by_id_and_key_stand_in_for_a_search(engine: Engine) -> None:
    by_id = engine.ask(QUESTIONS[0], passages=(5, 2))
    by_key = engine.ask(QUESTIONS[0], passages=("p5", "p2"))
    assert by_id.hits is not None and by_id.hits.ids.tolist() == [5, 2]
    assert by_id.text == by_key.text
    assert [passage.key for passage in by_id.hits.passages] == ["p5", "p2"]
    assert by_id.weights is not None and by_id.weights.tolist() == [0.5, 0.5]


def test_keys_are_looked_up_once_and_all_together(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[list[str]] = []

    def noting(corpus: Corpus, keys: list[str]) -> list[int]:
        looked_up.append(keys)
        return ids_of_keys(corpus, keys)

    monkeypatch.setattr(preparation, "ids_of_keys", noting)
    for _ in range(2):
        answer = engine.ask(QUESTIONS[0], passages=("p7", 1, "p3"))
        assert answer.hits is not None and answer.hits.ids.tolist() == [7, 1, 3]
    assert looked_up == [["p7", "p3"]]


def test_a_mixture_is_the_sum_of_its_passages_gates(engine: Engine) -> None:
    one, other = (engine.ask("Who?", passages=(i,)).gates for i in (3, 8))
    mixed = engine.ask("Who?", mixture={"p3": 0.75, 8: -0.5})
    assert one is not None and other is not None and mixed.gates is not None
    np.testing.assert_allclose(mixed.gates, 0.75 * one - 0.5 * other, atol=1e-6)
    assert mixed.weights is not None and mixed.weights.tolist() == [0.75, -0.5]
    nothing = engine.ask("Who?", mixture={3: 0.0})
    assert nothing.text == engine.ask("Who?", mode="closed").text


def test_what_was_said_before_stands_before_the_question_and_its_passages(
    engine: Engine, answerer: Answerer
) -> None:
    history = (Message("user", "Hello?"), Message("assistant", "Hello."))
    answer = engine.ask(QUESTIONS[0], history=history, mode="rag", passages=("p0",))
    text = "Question: Hello?\nAnswer: Hello.\nPassage: Anna. Anna Smith was born in Oslo in 1900.\n"
    whole = f"{text}Question: {QUESTIONS[0]}\nAnswer:"
    sampling = Sampling(max_new_tokens=6, stops=("\n",))
    (same,) = engine.generate([Request(prompt=whole, mode="closed", sampling=sampling)])
    assert answer.text == same.text and answer.prompt_tokens == same.prompt_tokens
    long = (Message("user", "Hello? " * 200),)
    with pytest.raises(QuestionTooLongError, match="with what was said before"):
        engine.ask(QUESTIONS[0], history=long)


def test_text_that_is_no_question_is_continued_as_it_is(engine: Engine, answerer: Answerer) -> None:
    sampling = Sampling(max_new_tokens=5, ends=False, logprobs=2)
    request = Request(prompt="Anna Smith was", mode="closed", sampling=sampling)
    (answer,) = engine.generate([request])
    (choice,) = answer.choices
    ids = torch.tensor([list(b"Anna Smith was")])
    assert answer.prompt_tokens == ids.shape[1]
    tokens = answerer.tokenizer("Anna Smith was", return_tensors="pt")["input_ids"]
    for token in choice.ids:
        with torch.no_grad():
            logits = answerer.model(tokens).logits[0, -1]
        assert int(logits.argmax()) == token
        tokens = torch.cat([tokens, torch.tensor([[token]])], dim=1)
    assert choice.finish == "length" and len(choice.logprobs) == 5
    assert [len(noted.top) for noted in choice.logprobs] == [2] * 5


def test_several_continuations_are_drawn_by_seeds_of_their_own(engine: Engine) -> None:
    def asked(n: int, seed: int) -> list[str]:
        sampling = Sampling(max_new_tokens=8, temperature=1.0, seed=seed)
        answer = engine.submit(Request(question="Who?", sampling=sampling, n=n)).answer()
        return [choice.text for choice in answer.choices]

    three = asked(3, seed=4)
    assert len(set(three)) == 3
    assert three == asked(3, seed=4)
    assert three[1:] == asked(2, seed=5)


def test_a_stream_adds_up_to_the_answer_in_threads_and_coroutines(engine: Engine) -> None:
    sampling = Sampling(max_new_tokens=20, ends=False)
    request = Request(question=QUESTIONS[1], sampling=sampling)
    whole = engine.submit(request).answer().choices[0].text
    pieces = list(engine.submit(request))
    assert "".join(pieces) == whole and len(pieces) > 3

    async def several() -> list[str]:
        async def one() -> str:
            stream = engine.stream(QUESTIONS[1], sampling=sampling)
            return "".join([piece async for piece in stream])

        return await asyncio.gather(*(one() for _ in range(5)))

    assert asyncio.run(several()) == [whole] * 5


def test_a_coroutine_that_gives_up_ends_what_was_being_said(engine: Engine) -> None:
    sampling = Sampling(max_new_tokens=400, ends=False)

    async def first_piece() -> Any:
        reply = await asyncio.to_thread(engine.submit, Request(question="Who?", sampling=sampling))
        stream = reply.stream()
        async for _ in stream:
            break
        await stream.aclose()
        return reply

    reply = asyncio.run(first_piece())
    assert reply.answer().choices[0].finish == "cancelled"
    assert len(reply.answer().choices[0].ids) < 400


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "either a question or a prompt"),
    ({"question": "a", "prompt": "b"}, "either a question or a prompt"),
    ({"question": "  "}, "question: is empty"),
    ({"question": "a", "mode": "poly-uniform"}, "'poly-uniform' isn't known"),
    ({"question": "a", "top_k": 1, "passages": (1,)}, "top_k and passages contradict"),
    ({"question": "a", "mode": "closed", "top_k": 2}, "mode 'closed' uses no passages"),
    ({"question": "a", "mode": "rag", "mixture": {1: 1.0}}, "'rag' mixes nothing"),
    ({"question": "a", "top_k": 0}, "top_k=0"),
    ({"prompt": "a", "history": (Message("user", "b"),)}, "goes before a question"),
    ({"question": "a", "history": (Message("tool", "b"),)}, "role 'tool' isn't one of"),
    ({"question": "a", "n": 0}, "n=0"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_a_request_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Request(**fields)


def test_what_is_not_there_is_named(engine: Engine) -> None:
    with pytest.raises(RequestError, match="no passage with the key 'p77'"):
        engine.ask("Who?", passages=("p77",))
    with pytest.raises(RequestError, match=r"passages: .*0 to 9"):
        engine.ask("Who?", passages=(10,))
    with pytest.raises(RequestError, match="n=99: 99 continuations"):
        engine.submit(Request(question="Who?", n=99))
    with pytest.raises(QuestionTooLongError):
        engine.ask("Who? " * 500)
    with pytest.raises(RequestError, match="prompt: has 0 tokens"):
        engine.submit(Request(prompt="", mode="closed"))
    with pytest.raises(RunError, match="polyprag distill"):
        engine.ask("Who?", mode="routed")
    assert engine.ask("Who?").text == engine.ask("Who?").text  # it goes on


def test_a_pass_that_fails_is_told_and_others_are_answered(
    engine: Engine, answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = engine.ask("Who?").text

    def failing(*_: Any, **__: Any) -> None:
        raise MemoryError("no room for this batch")

    monkeypatch.setattr(type(answerer.model), "forward", failing)
    with pytest.raises(MemoryError, match="no room"):
        engine.ask("Who?")
    with pytest.raises(MemoryError, match="no room"):
        list(engine.submit(Request(question="Who?")))
    monkeypatch.undo()
    assert engine.ask("Who?").text == before


def test_closing_says_to_the_end_what_was_begun(encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    settings = (f"model.path={config.model.path}", "generation.max_new_tokens=30")
    engine = polyprag.load(run, *settings)
    replies = [engine.submit(Request(question=question)) for question in QUESTIONS]
    engine.close()
    assert all(reply.is_done for reply in replies)
    assert {reply.answer().choices[0].finish for reply in replies} <= {"stop", "length"}
    with pytest.raises(RuntimeError, match="was closed"):
        engine.ask("Who?")


def test_a_run_without_an_encoding_is_loaded_for_what_it_can_do(
    encoded_run: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = encoded_run
    (tmp_path / "corpus").symlink_to(run / "corpus")
    with polyprag.load(tmp_path, f"model.path={config.model.path}") as engine:
        assert "no index, no experts" in repr(engine)
        assert engine.ask("Who?", mode="closed").mode == "closed"
        with pytest.raises(RunError, match="polyprag index"):
            engine.ask("Who?", mode="rag")


def test_an_answer_shows_itself_in_a_notebook(engine: Engine) -> None:
    shown = repr(engine.ask(QUESTIONS[0], passages=("p0", "p4")))
    first, *others = shown.splitlines()
    assert "(poly, " in first
    assert any(line.startswith("  [p0]  0.50  Anna: Anna Smith was born") for line in others)
    assert "10 passages, " in repr(engine) and "experts" in repr(engine)

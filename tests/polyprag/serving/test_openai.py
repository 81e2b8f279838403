"""OpenAI's own client asks a server, and gets what the engine says."""

import asyncio

import httpx
import numpy as np
import pytest
import torch
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from polyprag.answering.request import Request
from polyprag.decoding import decoder
from polyprag.decoding.sampling import Sampling
from tests.polyprag.serving.conftest import MakeServer, Serving

ASKED = "Where was Anna Smith born?"
MODES = ("closed", "rag", "poly", "combine")


@pytest.fixture(scope="module")
def client(serving: Serving) -> OpenAI:
    return OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)


def user(text: str = ASKED) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_models_are_the_base_and_each_way_to_answer(client: OpenAI) -> None:
    models = list(client.models.list())
    assert [each.id for each in models] == ["wiki", *(f"wiki:{mode}" for mode in MODES)]
    own, *others = (each.model_dump() for each in models)
    assert own["parent"] is None and {each["parent"] for each in others} == {"wiki"}
    assert {each["root"] for each in others} == {own["root"]}
    assert client.models.retrieve("wiki:poly:p1,p2").model_dump()["parent"] == "wiki"
    with pytest.raises(NotFoundError, match="use one of wiki, wiki:closed"):
        client.models.retrieve("wiki:magic")


@pytest.mark.parametrize("mode", MODES)
def test_a_chat_is_what_the_engine_says(client: OpenAI, serving: Serving, mode: str) -> None:
    told = client.chat.completions.create(model=f"wiki:{mode}", messages=user())  # type: ignore[arg-type]
    answer = serving.engine.ask(ASKED, mode=mode)
    (choice,) = told.choices
    assert choice.message.content == answer.text and choice.finish_reason in ("stop", "length")
    assert told.usage is not None
    assert told.usage.prompt_tokens == answer.prompt_tokens
    assert told.usage.completion_tokens == len(answer.choices[0].ids)
    own = told.model_extra["polyprag"]  # type: ignore[index]
    keys = [] if answer.hits is None else [passage.key for passage in answer.hits.passages]
    assert own["mode"] == mode and [each["key"] for each in own["passages"]] == keys
    assert own["trust"]["trusted"] == answer.trusted
    assert own["trust"]["confidence"] == pytest.approx(answer.confidence, abs=1e-4)
    if answer.weights is not None:
        assert [each["weight"] for each in own["passages"]] == pytest.approx(
            answer.weights.tolist()
        )


def test_the_base_by_its_name_is_the_base_alone(client: OpenAI, serving: Serving) -> None:
    told = client.chat.completions.create(model="wiki", messages=user())  # type: ignore[arg-type]
    assert told.choices[0].message.content == serving.engine.ask(ASKED, mode="closed").text


def test_a_mixture_by_name_and_one_by_weights(client: OpenAI, serving: Serving) -> None:
    by_name = client.chat.completions.create(model="wiki:poly:p5,p2", messages=user())  # type: ignore[arg-type]
    pinned = serving.engine.ask(ASKED, passages=("p5", "p2"))
    assert by_name.choices[0].message.content == pinned.text
    by_weight = client.chat.completions.create(
        model="wiki:poly",
        messages=user(),  # type: ignore[arg-type]
        extra_body={"polyprag": {"mixture": {"p5": 1.5, "p2": -0.5}, "gates": True}},
    )
    mixed = serving.engine.ask(ASKED, mixture={"p5": 1.5, "p2": -0.5})
    assert by_weight.choices[0].message.content == mixed.text
    own = by_weight.model_extra["polyprag"]  # type: ignore[index]
    assert [each["weight"] for each in own["passages"]] == [1.5, -0.5]
    assert mixed.gates is not None
    torch.testing.assert_close(torch.tensor(own["gates"]), torch.from_numpy(mixed.gates))
    other = client.chat.completions.create(
        model="wiki",
        messages=user(),  # type: ignore[arg-type]
        extra_body={"polyprag": {"mode": "rag", "passages": [7], "top_k": None}},
    )
    assert (
        other.choices[0].message.content
        == serving.engine.ask(ASKED, mode="rag", passages=(7,)).text
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_is_the_same_answer_in_pieces(client: OpenAI, serving: Serving, mode: str) -> None:
    stream = client.chat.completions.create(
        model=f"wiki:{mode}",
        messages=user(),  # type: ignore[arg-type]
        stream=True,
        stream_options={"include_usage": True},
        logprobs=True,
        top_logprobs=2,
    )
    chunks = list(stream)
    answer = serving.engine.ask(ASKED, mode=mode)
    text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert text.strip() == answer.text
    first, *_, last, used = chunks
    assert (
        first.choices[0].delta.role == "assistant" and "passages" in first.model_extra["polyprag"]
    )  # type: ignore[index]
    assert last.choices[0].finish_reason in ("stop", "length")
    assert last.model_extra["polyprag"]["trust"]["trusted"] == answer.trusted  # type: ignore[index]
    assert used.usage is not None and used.usage.completion_tokens == len(answer.choices[0].ids)
    noted = [
        token
        for each in chunks
        if each.choices and each.choices[0].logprobs
        for token in each.choices[0].logprobs.content or ()
    ]
    assert len(noted) == len(answer.choices[0].ids)
    assert all(len(token.top_logprobs) == 2 for token in noted)
    assert all(token.logprob == token.top_logprobs[0].logprob for token in noted)  # greedy


def test_several_answers_that_are_drawn_by_a_seed(client: OpenAI) -> None:
    def drawn(seed: int, *, stream: bool = False) -> list[str]:
        given = {"model": "wiki:poly", "messages": user(), "n": 3, "seed": seed}
        given |= {"temperature": 1.5, "max_tokens": 12}
        if not stream:
            told = client.chat.completions.create(**given)
            assert [choice.index for choice in told.choices] == [0, 1, 2]
            return [choice.message.content or "" for choice in told.choices]
        texts = ["", "", ""]
        for chunk in client.chat.completions.create(**given, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        return [text.strip() for text in texts]

    assert drawn(7) == drawn(7) == drawn(7, stream=True)
    assert len(set(drawn(7))) > 1 and drawn(7) != drawn(8)


def test_a_conversation_and_its_parts(client: OpenAI, serving: Serving) -> None:
    from polyprag.method.prompts import Message

    messages = [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": ASKED}]},
    ]
    told = client.chat.completions.create(model="wiki:poly", messages=messages)  # type: ignore[arg-type]
    history = (Message("user", "Hello?"), Message("assistant", "Hello."))
    assert told.choices[0].message.content == serving.engine.ask(ASKED, history=history).text


def test_texts_and_token_ids_are_continued(client: OpenAI, serving: Serving) -> None:
    texts = ["Anna Smith was", "Boris"]
    ids = [list(serving.engine.loaded.tokenizer(text)["input_ids"]) for text in texts]
    given = {"model": "wiki", "max_tokens": 5, "n": 2, "logprobs": 1}
    by_text = client.completions.create(prompt=texts, **given)
    by_ids = client.completions.create(prompt=ids, **given)  # type: ignore[arg-type]
    assert [choice.index for choice in by_text.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in by_text.choices] == [choice.text for choice in by_ids.choices]
    sampling = Sampling(max_new_tokens=5)
    said = serving.engine.generate(
        [Request(prompt=text, mode="closed", sampling=sampling, n=2) for text in texts]
    )
    expected = [choice.text for answer in said for choice in answer.choices]
    assert [choice.text for choice in by_text.choices] == expected
    pieces = ["", "", "", ""]
    for chunk in client.completions.create(prompt=texts, stream=True, **given):
        assert chunk.choices  # which many clients don't ask
        for choice in chunk.choices:
            pieces[choice.index] += choice.text
    assert pieces == expected


def test_a_scored_prompt_has_the_log_probabilities_of_a_plain_pass(
    client: OpenAI, serving: Serving
) -> None:
    loaded, prompt = serving.engine.loaded, "Anna Smith was born in Oslo"
    ids = torch.tensor([loaded.tokenizer(prompt)["input_ids"]])
    with torch.no_grad():
        expected = loaded.model(ids).logits[0].log_softmax(-1)
    for most in (0, 1):
        told = client.completions.create(
            model="wiki", prompt=ids[0].tolist(), max_tokens=most, echo=True, logprobs=2
        )
        (choice,) = told.choices
        assert choice.text.startswith(prompt) and choice.logprobs is not None
        first, *noted = choice.logprobs.token_logprobs or ()
        assert first is None and len(noted) == ids.shape[1] - 1 + most
        of_prompt = [float(expected[at, token]) for at, token in enumerate(ids[0, 1:])]
        assert noted[: len(of_prompt)] == pytest.approx(of_prompt, abs=1e-4)
        best = choice.logprobs.top_logprobs or []
        assert best[0] is None
        assert max(best[1].values()) == pytest.approx(float(expected[0].max()), abs=1e-4)
        offsets = choice.logprobs.text_offset or []
        assert offsets[:3] == [0, 1, 2]  # a token a character, here


def test_a_stop_text_ends_and_is_left_out(client: OpenAI) -> None:
    given = {"model": "wiki", "prompt": "Anna", "max_tokens": 20}
    whole = client.completions.create(**given).choices[0].text  # type: ignore[call-overload]
    stop = whole[4:6]
    told = client.completions.create(**given, stop=[stop, "never said"])  # type: ignore[call-overload]
    assert told.choices[0].text == whole[: whole.index(stop)]
    assert told.choices[0].finish_reason == "stop"


def test_vectors_are_those_of_the_indexs_encoder(client: OpenAI, serving: Serving) -> None:
    texts = ["Anna Smith", "Oslo"]
    told = client.embeddings.create(model="wiki", input=texts)
    index = serving.engine.loaded.index
    assert index is not None
    expected = index.vectors_of(texts)
    for at, each in enumerate(told.data):
        assert each.embedding == pytest.approx(expected[at].tolist(), abs=1e-6)
    as_floats = client.embeddings.create(model="wiki", input=texts[0], encoding_format="float")
    assert as_floats.data[0].embedding == pytest.approx(expected[0].tolist(), abs=1e-6)


def test_passages_are_found(serving: Serving) -> None:
    asked = {"query": ["Anna Smith", "Boris"], "top_k": 1, "method": "bm25"}
    told = httpx.post(f"{serving.url}/v1/retrieve", json=asked).json()["data"]
    assert [each["passages"][0]["key"] for each in told] == ["p0", "p1"]
    assert told[0]["passages"][0]["text"] == "Anna Smith was born in Oslo in 1900."
    assert "gates" not in told[0]


def test_what_is_found_comes_with_its_mixture(serving: Serving) -> None:
    asked = {"query": "Where was Anna Smith born?", "gates": True}
    (told,) = httpx.post(f"{serving.url}/v1/retrieve", json=asked).json()["data"]
    gates = serving.engine.ask("Where was Anna Smith born?", mode="poly").gates
    assert gates is not None and np.allclose(np.array(told["gates"]), gates, atol=1e-6)


def test_many_ask_at_once_in_all_modes(serving: Serving) -> None:
    async def ask_all() -> list[str]:
        client = AsyncOpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)

        async def ask(at: int) -> str:
            mode = MODES[at % 4]
            if at % 2:
                told = await client.chat.completions.create(model=f"wiki:{mode}", messages=user())  # type: ignore[call-overload]
                return str(told.choices[0].message.content)
            text = ""
            async for chunk in await client.chat.completions.create(  # type: ignore[call-overload]
                model=f"wiki:{mode}", messages=user(), stream=True
            ):
                text += chunk.choices[0].delta.content or ""
            return text.strip()

        async with client:
            return list(await asyncio.gather(*map(ask, range(24))))

    expected = [serving.engine.ask(ASKED, mode=mode).text for mode in MODES]
    assert asyncio.run(ask_all()) == [expected[at % 4] for at in range(24)]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools: "),
        ({"response_format": {"type": "json_object"}}, "response_format: answers are plain text"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages: the last one"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages: the last one is empty"),
        ({"messages": []}, "messages: "),
        ({"temperature": -1}, "temperature: "),
        ({"max_tokens": 0}, "max_tokens: max_new_tokens=0: must be at least 1"),
        ({"max_tokens": 100_000}, "max_tokens: 100000 are more than 1024"),
        ({"logprobs": True, "top_logprobs": 50}, "logprobs: 50 are more than 20"),
        ({"top_logprobs": 2}, "top_logprobs: needs logprobs=true"),
        ({"presence_penalty": 0.5}, "presence_penalty: "),
        ({"n": 9}, "n=9: "),
        ({"n": 500}, "500 continuations: at most 128"),
        ({"extra_body": {"polyprag": {"mood": "poly"}}}, "polyprag.mood: "),
        ({"extra_body": {"polyprag": {"mode": "routed"}}}, "polyprag.mode: the run has what"),
        ({"extra_body": {"polyprag": {"passages": ["nobody"]}}}, "nobody"),
        ({"extra_body": {"polyprag": {"passages": [10_000]}}}, "passages: "),
        ({"extra_body": {"polyprag": {"top_k": 1000}}}, "at most 100 passages"),
        ({"messages": [{"role": "user", "content": "long " * 500}]}, "window"),
    ],
)
def test_what_cannot_be_done_is_named(client: OpenAI, fields: dict[str, object], says: str) -> None:
    given = {"model": "wiki:poly", "messages": user(), **fields}
    for stream in (False, True):
        with pytest.raises(BadRequestError) as told:
            client.chat.completions.create(**given, stream=stream)  # type: ignore[call-overload]
        assert says in told.value.message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": [5, 10_000]}, "prompt: 10000 isn't a token"),
        ({"prompt": []}, "prompt"),
        ({"suffix": "end"}, "suffix: "),
        ({"best_of": 3}, "best_of: "),
        ({"echo": True, "stream": True}, "echo: "),
        ({"prompt": "x" * 600}, "window"),
    ],
)
def test_what_a_completion_cannot_do_is_named(
    client: OpenAI, fields: dict[str, object], says: str
) -> None:
    with pytest.raises(BadRequestError) as told:
        client.completions.create(**{"model": "wiki", "prompt": "Anna", **fields})  # type: ignore[call-overload]
    assert says in told.value.message


def test_an_answer_that_is_not_trusted_can_be_kept_back(make_server: MakeServer) -> None:
    server = make_server(abstain="refuse")
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    answer = server.engine.ask(ASKED)
    assert answer.trusted is False  # a random model's
    given = {"model": "wiki:poly", "messages": user(), "logprobs": True}
    told = client.chat.completions.create(**given)  # type: ignore[call-overload]
    assert told.choices[0].message.content is None and told.choices[0].logprobs is None
    assert told.choices[0].message.refusal == answer.reason
    chunks = list(client.chat.completions.create(**given, stream=True))  # type: ignore[call-overload]
    assert not any(each.choices[0].logprobs for each in chunks)
    assert not any(each.choices[0].delta.content for each in chunks)
    assert "".join(each.choices[0].delta.refusal or "" for each in chunks) == answer.reason


def test_the_schema_is_told(serving: Serving) -> None:
    schema = httpx.get(f"{serving.url}/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/retrieve"} <= set(schema["paths"])


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_thought_is_apart_from_the_answer(
    client: OpenAI, serving: Serving, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    said = list(serving.engine.loaded.tokenizer("<think>in Oslo?</think>Oslo")["input_ids"])
    script = iter([*said, serving.engine.loaded.tokenizer.eos_token_id])
    monkeypatch.setattr(decoder, "choose", lambda *_: [next(script)])
    given = {"model": "wiki:closed", "messages": user(), "max_tokens": 50}
    if not stream:
        told = client.chat.completions.create(**given)  # type: ignore[call-overload]
        message = told.choices[0].message
        assert (message.content, message.reasoning_content) == ("Oslo", "in Oslo?")
        return
    thought = answer = ""
    for chunk in client.chat.completions.create(**given, stream=True):  # type: ignore[call-overload]
        delta = chunk.choices[0].delta
        thought += getattr(delta, "reasoning_content", None) or ""
        answer += delta.content or ""
    assert (answer, thought) == ("Oslo", "in Oslo?")

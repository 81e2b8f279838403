"""Every mode on a small run with random weights, against the formulas written out in numpy."""

import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyprag.answering.answerer import Answerer
from polyprag.answering.controls import other_passages, random_rows
from polyprag.answering.generation import decode_greedily
from polyprag.answering.given import NOT_IN_CORPUS, hits_of
from polyprag.answering.modes import WITHOUT_MAP, Mode
from polyprag.answering.said import Said
from polyprag.answering.trust.abstention import Abstention, CalibratedRule, abstention_settings
from polyprag.answering.trust.confidence import NO_PASSAGE
from polyprag.answering.trust.judging import Judge
from polyprag.answering.trust.likelihood import logprobs_of
from polyprag.augment.corpus import counts_of
from polyprag.config import (
    AnsweringConfig,
    Config,
    ExpertsConfig,
    GenerationConfig,
    RetrievalConfig,
    RouterConfig,
)
from polyprag.config.files import save_config
from polyprag.config.generation import SHORTEST_ANSWER
from polyprag.encoding.reader import Encoding
from polyprag.errors import ConfigError, RunError
from polyprag.evaluation.questions import SourcePassage
from polyprag.method.base_model import load_base
from polyprag.method.prompts import PromptTokenizer, qa_prompt
from polyprag.method.window import QuestionTooLongError
from sharding.change.removal import remove_passages

QUESTIONS = ["Where was Anna Smith born?", "Hugo Smith?", "Who was born in Kyoto or Lima?"]


@pytest.fixture(scope="module")
def answerer(encoded_run: tuple[Path, Config]) -> Answerer:
    run, config = encoded_run
    return Answerer.open(run, config)


def _softmax_mixture(rows_kSK: np.ndarray, scores_k: np.ndarray) -> np.ndarray:
    weights = np.exp(scores_k - scores_k.max())
    weights /= weights.sum()
    return (weights[:, None, None] * rows_kSK / np.sqrt(rows_kSK.shape[-1])).sum(axis=0)


def test_poly_mixes_the_rows_of_what_was_retrieved(
    answerer: Answerer, encoded_run: tuple[Path, Config]
) -> None:
    run, config = encoded_run
    encoding = Encoding.load(run)
    answers = answerer.answer(QUESTIONS, mode="poly", k=2)
    assert [answer.hits.passages[0].title for answer in answers if answer.hits][:2] == [
        "Anna",
        "Hugo",
    ]
    gates = []
    for answer in answers:
        assert answer.hits is not None and answer.gates is not None
        assert len(answer.hits.ids) == 2
        gates.append(_softmax_mixture(encoding.rows(answer.hits.ids), answer.hits.scores))
        np.testing.assert_allclose(answer.gates, gates[-1], atol=2e-3)  # the index has fp16 rows
    said = decode_greedily(
        answerer.model,
        answerer.tokenizer,
        PromptTokenizer(answerer.tokenizer).prompt_ids(
            [qa_prompt(question) for question in QUESTIONS]
        ),
        config=config.generation,
        pool=answerer.pool,
        gates=torch.from_numpy(
            np.stack([answer.gates for answer in answers if answer.gates is not None])
        ),
    )
    assert [answer.text for answer in answers] == [each.text for each in said]


def test_prompts_and_experts_of_each_mode(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[list[int]], torch.Tensor | None]] = []

    def recording(
        model: object, tokenizer: object, prompts: list[list[int]], **settings: torch.Tensor | None
    ) -> list[Said]:
        seen.append((prompts, settings["gates"]))
        return [Said("x", (120,), True, (-1.0,))] * len(prompts)

    monkeypatch.setattr("polyprag.answering.answerer.decode_greedily", recording)
    passages = answerer.retrieve(QUESTIONS[:1], k=2)[0].passages
    alone, with_passages = qa_prompt(QUESTIONS[0]), qa_prompt(QUESTIONS[0], passages)
    assert alone != with_passages
    for mode in WITHOUT_MAP:
        seen.clear()
        answer = answerer.answer(QUESTIONS[:1], mode=mode, k=2)[0]
        prompts, gates = seen[0]
        expected = with_passages if mode in ("rag", "combine") else alone
        assert prompts == PromptTokenizer(answerer.tokenizer).prompt_ids([expected])
        assert (gates is None) == (mode in ("closed", "rag"))
        assert (answer.hits is None) == (mode == "closed")


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\x00"])
def test_an_answer_that_shows_nothing_is_never_trusted_however_likely_it_is(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    said = Said(text, (32,), True, (-0.0001,))
    monkeypatch.setattr(
        "polyprag.answering.answerer.decode_greedily", lambda *_, **__: [said, said]
    )
    for mode in ("closed", "rag", "poly"):
        for answer in answerer.answer(QUESTIONS[:2], mode=mode, all_evidence=True):
            assert answer.trusted is False and answer.confidence == 0
            assert answer.reason == "the model said nothing"


def test_tokens_are_scored_where_somebody_judges(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    real = decode_greedily

    def noting(*arguments: Any, **options: Any) -> list[Said]:
        asked.append(options["scored"])
        return real(*arguments, **options)

    monkeypatch.setattr("polyprag.answering.answerer.decode_greedily", noting)
    for abstain in ("tell", "never"):
        settings = replace(answerer.config, answering=AnsweringConfig(abstain=abstain))
        monkeypatch.setattr(answerer, "config", settings)
        monkeypatch.setattr(answerer, "judge", Judge(settings))
        (answer,) = answerer.answer(QUESTIONS[:1], mode="closed")
        assert (answer.trust is None) == (abstain == "never")
    assert asked == [True, False]


def test_closed_book_is_the_base_model_without_experts(
    answerer: Answerer, encoded_run: tuple[Path, Config]
) -> None:
    _, config = encoded_run
    model, tokenizer = load_base(config.model)
    prompts = PromptTokenizer(tokenizer).prompt_ids([qa_prompt(question) for question in QUESTIONS])
    said = decode_greedily(model, tokenizer, prompts, config=config.generation)
    expected = [each.text for each in said]
    assert [a.text for a in answerer.answer(QUESTIONS, mode="closed")] == expected


def test_wrong_rows_are_those_of_other_passages_whatever_the_batch(
    answerer: Answerer, encoded_run: tuple[Path, Config]
) -> None:
    run, config = encoded_run
    own = answerer.retrieve(QUESTIONS, k=3)
    never = [{int(hits.ids[0] + 1) % 10, NOT_IN_CORPUS} for hits in own]
    together = answerer.answer(QUESTIONS, mode="poly-wrong-row", k=3, never_rows_of=never)
    for question, hits, barred, answer in zip(QUESTIONS, own, never, together, strict=True):
        ids = other_passages(
            question,
            num_wanted=len(hits.ids),
            num_passages=10,
            barred=barred | set(hits.ids.tolist()),
            seed=config.train.seed,
        )
        rows = Encoding.load(run).rows(ids)
        assert answer.gates is not None and answer.hits is not None
        assert answer.hits.ids.tolist() == hits.ids.tolist()
        np.testing.assert_allclose(answer.gates, _softmax_mixture(rows, hits.scores), atol=2e-3)
        one = answerer.answer([question], mode="poly-wrong-row", k=3, never_rows_of=[barred])[0]
        np.testing.assert_array_equal(one.gates, answer.gates)
        assert one.text == answer.text


def test_random_rows_are_no_passages_whatever_the_batch(
    answerer: Answerer, encoded_run: tuple[Path, Config]
) -> None:
    run, config = encoded_run
    own = answerer.retrieve(QUESTIONS, k=3)
    together = answerer.answer(QUESTIONS, mode="poly-random-row", k=3)
    all_rows = Encoding.load(run).rows(range(10))
    for question, hits, answer in zip(QUESTIONS, own, together, strict=True):
        assert answer.hits is not None and answer.hits.ids.tolist() == hits.ids.tolist()
        assert answer.gates is not None and hits.rows is not None
        rows = random_rows(question, hits.rows, ids=hits.ids, seed=config.train.seed)
        assert min(np.abs(row - known).max() for row in rows for known in all_rows) > 0.1
        np.testing.assert_allclose(answer.gates, _softmax_mixture(rows, hits.scores), atol=2e-3)
        one = answerer.answer([question], mode="poly-random-row", k=3)[0]
        np.testing.assert_array_equal(one.gates, answer.gates)
        assert one.text == answer.text


def test_uniform_gates_are_alike_for_every_expert(answerer: Answerer) -> None:
    answer = answerer.answer(QUESTIONS[:1], mode="poly-uniform")[0]
    assert answer.gates is not None
    np.testing.assert_allclose(answer.gates, 1 / np.sqrt(answer.gates.shape[1]), rtol=1e-6)


def test_a_question_that_finds_nothing_is_answered_without_experts(answerer: Answerer) -> None:
    nothing = "zzzz qqqq"
    for mode in ("poly", "poly-wrong-row", "poly-random-row", "poly-uniform"):
        answer = answerer.answer([nothing, QUESTIONS[0]], mode=mode)[0]  # type: ignore[arg-type]
        assert answer.hits is not None and len(answer.hits.ids) == 0
        assert answer.gates is not None and not answer.gates.any()
        assert answer.text == answerer.answer([nothing], mode="closed")[0].text


def test_given_passages_stand_in_for_retrieval(answerer: Answerer) -> None:
    known = SourcePassage("Hugo", "Hugo Smith  was born in Lyon in 1970.", True)
    unknown = SourcePassage("Nobody", "Nobody was born.", True)
    hits = hits_of(answerer.indexed(), [known])
    assert hits.ids.tolist() == [7] and hits.passages[0].key == "p7" and hits.rows is not None
    answer = answerer.answer(QUESTIONS[:1], mode="poly", hits=[hits])[0]
    assert answer.gates is not None
    np.testing.assert_allclose(answer.gates, hits.rows[0] / np.sqrt(16), rtol=1e-6)

    mixed = hits_of(answerer.indexed(), [unknown, known])
    assert mixed.ids.tolist() == [NOT_IN_CORPUS, 7] and mixed.rows is None
    assert mixed.passages[0].text == "Nobody was born."
    assert answerer.answer(QUESTIONS[:1], mode="rag", hits=[mixed])[0].text is not None
    with pytest.raises(RunError, match="routing rows"):
        answerer.answer(QUESTIONS[:1], mode="poly", hits=[mixed])


def test_wrong_rows_are_never_those_of_removed_passages(
    encoded_run: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = encoded_run
    shutil.copytree(run, tmp_path / "run")
    remove_passages(tmp_path / "run" / "corpus", [1, 2, 3, 4], count=counts_of)
    answerer = Answerer.open(tmp_path / "run", config, modes=["poly-wrong-row"])
    (answer,) = answerer.answer(
        QUESTIONS[:1], mode="poly-wrong-row", k=1, never_rows_of=[{5, 6, 7, 8}]
    )
    row_SK = Encoding.load(run).rows([9])[0]  # the only one that is left
    assert answer.gates is not None
    np.testing.assert_allclose(answer.gates, row_SK / np.sqrt(row_SK.shape[1]), atol=2e-3)


def test_the_encodings_experts_and_router_are_used(encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    other = replace(config, experts=ExpertsConfig(num=4), router=RouterConfig(gate="softmax"))
    answer = Answerer.open(run, other, modes=["poly"]).answer(QUESTIONS[:1], mode="poly")[0]
    expected = Answerer.open(run, config, modes=["poly"]).answer(QUESTIONS[:1], mode="poly")[0]
    np.testing.assert_array_equal(answer.gates, expected.gates)
    assert answer.text == expected.text


def test_what_is_missing_is_named(tmp_path: Path, encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    with pytest.raises(RunError, match="polyprag index RUN"):
        Answerer.open(tmp_path, config, modes=["rag"])
    (tmp_path / "index").symlink_to(run / "index")
    with pytest.raises(RunError, match="polyprag encode RUN"):
        Answerer.open(tmp_path, config, modes=["closed", "poly"])
    closed = Answerer.open(tmp_path / "nowhere", config, modes=["closed"])
    assert closed.answer([], mode="closed") == []
    with pytest.raises(RunError, match="opened without its index"):
        closed.answer(QUESTIONS, mode="rag")
    with pytest.raises(ConfigError, match="isn't known"):
        closed.answer(QUESTIONS, mode="ragg")  # type: ignore[arg-type]


def test_long_contexts_are_cut_and_long_questions_refused(encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    narrow = replace(
        config,
        generation=GenerationConfig(max_new_tokens=400),  # leaves 112 of 512 byte tokens
        retrieval=RetrievalConfig(top_k=10),
    )
    answerer = Answerer.open(run, narrow, modes=["rag"])
    assert len(answerer.answer(["Smith?"], mode="rag")) == 1
    with pytest.raises(QuestionTooLongError):
        answerer.answer(["Smith? " * 20], mode="rag")


def test_latency_is_told_for_each_stage(answerer: Answerer) -> None:
    latency = answerer.answer(QUESTIONS[:1], mode="combine")[0].latency
    assert latency.retrieve_ms > 0 and latency.mix_ms > 0 and latency.generate_ms > 0
    assert latency.total_ms == pytest.approx(
        latency.retrieve_ms + latency.mix_ms + latency.generate_ms
    )


def test_threads_with_one_answerer_get_the_answers_of_one_after_the_other(
    encoded_run: tuple[Path, Config],
) -> None:
    run, config = encoded_run
    answerer = Answerer.open(run, config)
    modes: tuple[Mode, ...] = ("poly", "poly-wrong-row", "closed")
    expected = [[a.text for a in answerer.answer(QUESTIONS, mode=mode)] for mode in modes]
    assert len({tuple(texts) for texts in expected}) == 3  # so that a mix-up would show
    barrier, passed = threading.Barrier(len(modes)), threading.local()

    def meet(*_: object) -> None:
        """Has all of them inside the model, with all gates given, before any goes on."""
        if not getattr(passed, "here", False):
            passed.here = True
            barrier.wait(timeout=60)

    answerer.model.get_submodule("model.layers.0").register_forward_pre_hook(meet)
    with ThreadPoolExecutor(len(modes)) as threads:
        started = [threads.submit(answerer.answer, QUESTIONS, mode=mode) for mode in modes]
        assert [[a.text for a in future.result()] for future in started] == expected


def test_a_chat_template_is_told_what_it_was_told_in_training(
    encoded_run: tuple[Path, Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, config = encoded_run
    run = tmp_path / "run"
    shutil.copytree(original, run)
    trained = GenerationConfig(date="2031-12-01", instruction="Sing.", thinking="template")
    save_config(replace(config, generation=trained), run / "encoding")
    told: list[dict[str, str]] = []

    def markup(tokenizer: object, **settings: str) -> tuple[str, ...]:
        told.append(settings)
        return ("<", ">")

    monkeypatch.setattr("polyprag.method.prompts.chat_markup", markup)
    monkeypatch.setattr("polyprag.method.prompts.uses_chat", lambda tokenizer, style: True)
    Answerer.open(run, config, modes=["poly"])
    Answerer.open(run, config, modes=["rag"])  # with nothing that was trained
    default = {"date": "2024-07-26", "instruction": SHORTEST_ANSWER, "thinking": "never"}
    trained_with = {"date": "2031-12-01", "instruction": "Sing.", "thinking": "template"}
    assert told == [trained_with, default]


def _idf(num_with_term: int) -> float:
    """Of one of the run's ten passages' terms, as Lucene has it."""
    return math.log(1 + (10 - num_with_term + 0.5) / (num_with_term + 0.5))


def test_answers_come_with_what_speaks_for_them(
    answerer: Answerer, encoded_run: tuple[Path, Config]
) -> None:
    _, config = encoded_run
    asked = ["Where was Anna Smith born?", "Anna Smith's zebra", "zzzz qqqq"]
    own, half, nothing = answerer.answer(asked, mode="poly", k=1, all_evidence=True)
    prompts = PromptTokenizer(answerer.tokenizer).prompt_ids([qa_prompt(q) for q in asked[:1]])
    assert own.gates is not None and own.evidence is not None and own.trust is not None
    (said,) = decode_greedily(
        answerer.model,
        answerer.tokenizer,
        prompts,
        config=config.generation,
        pool=answerer.pool,
        gates=torch.from_numpy(own.gates[None]),
        scored=True,
    )
    assert said.logprobs is not None
    (alone,) = logprobs_of(answerer.model, prompts, [said.ids], pad_id=256)
    assert own.evidence.num_tokens == len(said.ids)
    assert own.evidence.mean_logprob == pytest.approx(np.mean(said.logprobs), abs=1e-4)
    assert own.evidence.min_logprob == pytest.approx(min(said.logprobs), abs=1e-4)
    assert own.evidence.alone_logprob == pytest.approx(np.mean(alone), abs=1e-4)
    # All three words are in Anna's passage; one of ten passages has Anna, all have Smith.
    assert half.evidence is not None and own.evidence.match == 1.0
    share = (_idf(1) + _idf(10)) / (_idf(1) + _idf(10) + _idf(0))
    assert half.evidence.match == pytest.approx(share)
    assert own.confidence == pytest.approx(math.exp(min(said.logprobs)), abs=1e-4)
    assert (nothing.trusted, nothing.reason, nothing.confidence) == (False, NO_PASSAGE, 0.0)


def test_in_rag_the_base_model_alone_has_no_passage_in_its_prompt(answerer: Answerer) -> None:
    for mode in ("rag", "combine"):
        (answer,) = answerer.answer(QUESTIONS[:1], mode=mode, k=1, all_evidence=True)  # type: ignore[arg-type]
        assert answer.hits is not None and answer.evidence is not None
        prompts = PromptTokenizer(answerer.tokenizer)
        ids = prompts.prompt_ids([qa_prompt(QUESTIONS[0], answer.hits.passages)])
        gates = None if answer.gates is None else torch.from_numpy(answer.gates[None])
        (said,) = decode_greedily(
            answerer.model,
            answerer.tokenizer,
            ids,
            config=answerer.config.generation,
            pool=answerer.pool,
            gates=gates,
        )
        bare = prompts.prompt_ids([qa_prompt(QUESTIONS[0])])
        (alone,) = logprobs_of(answerer.model, bare, [said.ids], pad_id=256)
        assert answer.evidence.alone_logprob == pytest.approx(np.mean(alone), abs=1e-4)


def test_the_base_model_is_asked_only_where_a_rule_weighs_it(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a pass too many")

    monkeypatch.setattr("polyprag.answering.answerer.logprobs_of", never)
    for mode in WITHOUT_MAP:
        (answer,) = answerer.answer(QUESTIONS[:1], mode=mode, k=1)
        assert answer.evidence is not None and answer.evidence.alone_logprob is None
        assert (answer.evidence.match is None) == (mode == "closed")
    with pytest.raises(AssertionError):
        answerer.answer(QUESTIONS[:1], mode="poly", all_evidence=True)


def test_nothing_is_judged_where_nobody_wants_it(encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    never = replace(config, answering=AnsweringConfig(abstain="never"))
    (answer,) = Answerer.open(run, never, modes=["poly"]).answer(QUESTIONS[:1], mode="poly")
    assert (answer.evidence, answer.trust, answer.trusted, answer.confidence) == (None,) * 4


def _calibrate(run: Path, config: Config, **changed: object) -> None:
    rule = CalibratedRule(
        weights={"match": 2.0, "alone_logprob": 0.0},
        intercept=-1.0,
        threshold=0.7,
        num_questions=40,
        f1=0.5,
        coverage=0.5,
        f1_trusted=0.9,
    )
    values = {
        "experts_sha256": Encoding.load(run).manifest.experts.sha256,
        "settings": abstention_settings(config),
        "modes": {"poly": rule, "rag": rule},
    }
    Abstention(**(values | changed)).save(run)  # type: ignore[arg-type]


def test_a_calibration_in_the_run_is_used_as_long_as_it_holds(
    encoded_run: tuple[Path, Config], tmp_path: Path
) -> None:
    original, config = encoded_run
    run = tmp_path / "run"
    shutil.copytree(original, run)
    _calibrate(run, config)

    def judged(config: Config = config, mode: Mode = "poly", k: int | None = None) -> list[object]:
        answerer = Answerer.open(run, config, modes=[mode])
        (answer,) = answerer.answer(["Anna Smith's zebra"], mode=mode, k=k)
        assert answer.trust is not None and answer.evidence is not None
        if answer.trust.is_calibrated:
            logit = 2 * (answer.evidence.match or 0) - 1
            assert answer.confidence == pytest.approx(1 / (1 + math.exp(-logit)))
            assert answer.trusted is False  # as 0.44, at a match of 0.38, is less than 0.7
            assert answer.evidence.alone_logprob is not None
        return [answer.trust.is_calibrated, answerer.judge.note(mode, top_k=k)]

    assert judged() == judged(mode="rag") == [True, None]
    assert judged(mode="combine") == [False, None]  # wasn't calibrated
    is_used, note = judged(k=1)
    assert not is_used and "calibrated with retrieval.top_k=3, which is 1 now" in str(note)
    _calibrate(run, config, experts_sha256="0" * 64)
    is_used, note = judged()
    assert not is_used and "other experts: run `polyprag calibrate RUN` again" in str(note)
    assert judged(mode="rag") == [True, None]  # which has none

    lenient = replace(config, answering=AnsweringConfig(threshold=0.0))
    _calibrate(run, config)
    (answer,) = Answerer.open(run, lenient, modes=["poly"]).answer(["Smith"], mode="poly")
    assert answer.trusted and answer.trust is not None and answer.trust.is_calibrated
    (run / "abstention.json").write_text("{}")
    with pytest.raises(RunError, match=r"abstention\.json: .*polyprag calibrate RUN` again"):
        Answerer.open(run, config, modes=["rag"])

"""RUN/router: made from the corpus's questions, used without a search, refused when stale."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from msgspec import structs
from safetensors.torch import load_file, save_file

from cluster.checkpoints.manifest import CheckpointManifest
from polyprag.answering.answerer import Answerer
from polyprag.answering.generation import decode_greedily
from polyprag.augment.corpus import augment_corpus
from polyprag.augment.written import Written
from polyprag.cli import main
from polyprag.config import Config, GenerationConfig
from polyprag.config.files import save_config
from polyprag.encoding.manifest import EncodingManifest
from polyprag.encoding.reader import Encoding
from polyprag.errors import RunError
from polyprag.method.prompts import PromptTokenizer, qa_prompt
from polyprag.retrieval.building.index import build_index
from polyprag.retrieval.query_encoder import query_encoder
from polyprag.retrieval.search import Index
from polyprag.routed.distill import distill
from polyprag.routed.map_file import MadeOf, load_map
from polyprag.verify.run import verify_run
from sharding.corpus.passages import QA, Augmentation, Passage
from sharding.corpus.reader import Corpus
from sharding.rows.file import load_rows, save_rows
from sharding.storage.files import sha256_of

QUESTIONS = ["Where was Anna Smith born?", "When was Hugo Smith born?"]


def written(passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
    """Six questions on each passage."""
    wordings = (
        "Where was {} Smith born?",
        "What is the birthplace of {} Smith?",
        "{} Smith was born where?",
        "When was {} Smith born?",
        "What year was {} Smith born in?",
        "Who is {} Smith?",
    )
    for number, passage in enumerate(passages):
        qas = tuple(QA(asked.format(passage.title), "Oslo", "Oslo.") for asked in wordings)
        yield number, Written(Augmentation(rewrites=(), qas=qas))


@pytest.fixture
def augmented_run(
    encoded_run: tuple[Path, Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Config]:
    """A copy of the small run, with questions."""
    original, config = encoded_run
    run = tmp_path / "run"
    shutil.copytree(original, run)
    monkeypatch.setattr("polyprag.augment.work.partition.writer_of", lambda config: written)
    augment_corpus(run, config)
    build_index(run, config)
    save_config(config, run)
    return run, config


@pytest.fixture
def routed_run(augmented_run: tuple[Path, Config]) -> tuple[Path, Config]:
    """That run with a map."""
    run, config = augmented_run
    distill(run, config, hidden=128, epochs=100)
    return run, config


def polyprag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def problems(run: Path, *, quick: bool = False) -> list[str]:
    found = verify_run(str(run), load_checkpoint=CheckpointManifest.load, quick=quick)
    return [problem.message for problem in found.problems]


def open_routed(run: Path, config: Config) -> Answerer:
    return Answerer.open(run, config, modes=["routed"])


def test_the_map_gives_a_question_about_a_passage_that_passages_gates(
    routed_run: tuple[Path, Config],
) -> None:
    run, config = routed_run
    answerer = open_routed(run, config)
    gates_NO = (Encoding.load(run).rows(np.arange(10)) / np.sqrt(16)).reshape(10, -1)
    asked = [
        (record.passage.id, qa.question)
        for record in Corpus.open(run / "corpus").iterate()
        if record.augmentation
        for qa in record.augmentation.qas
    ]
    assert len({passage_id for passage_id, _ in asked}) == 10
    answers = answerer.answer([question for _, question in asked], mode="routed")
    predicted_QO = np.stack([a.gates for a in answers if a.gates is not None]).reshape(-1, 96)
    distances = ((predicted_QO[:, None] - gates_NO) ** 2).sum(axis=-1)
    own = distances.argmin(axis=1) == [passage_id for passage_id, _ in asked]
    assert own.mean() > 0.9


def test_routed_answers_are_the_experts_mixed_by_the_map_and_nothing_is_searched(
    routed_run: tuple[Path, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = routed_run

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the index was opened or searched")

    monkeypatch.setattr(Index, "open", refuse)
    monkeypatch.setattr(Index, "search", refuse)
    for part in ("passages", "bm25", "embeddings", "dense", "rows"):
        (directory,) = (run / "index").glob(f"{part}-*")
        shutil.rmtree(directory)
    answerer = open_routed(run, config)
    assert answerer.index is None
    answers = answerer.answer(QUESTIONS, mode="routed")
    encoder = query_encoder(run, config)
    made_of = MadeOf.of(Encoding.load(run).manifest, encoder=encoder.identity)
    gates = load_map(run, made_of=made_of).gates(encoder.encode_queries(QUESTIONS))
    said = decode_greedily(
        answerer.model,
        answerer.tokenizer,
        PromptTokenizer(answerer.tokenizer).prompt_ids(
            [qa_prompt(question) for question in QUESTIONS]
        ),
        config=config.generation,
        pool=answerer.pool,
        gates=torch.from_numpy(gates),
    )
    assert [answer.text for answer in answers] == [each.text for each in said]
    for answer, expected in zip(answers, gates, strict=True):
        assert answer.hits is None
        np.testing.assert_array_equal(answer.gates, expected)
    alone = Answerer.open(run, config, modes=["closed"]).answer(QUESTIONS, mode="closed")
    assert [answer.text for answer in answers] != [answer.text for answer in alone]
    (unknown,) = answerer.answer(["zzzz qqqq"], mode="routed")
    assert unknown.gates is not None and not unknown.gates.any()


def test_the_commands_say_what_was_made_and_answer_by_it(
    augmented_run: tuple[Path, Config], tmp_path: Path
) -> None:
    run, config = augmented_run
    save_config(replace(config, generation=GenerationConfig(max_new_tokens=4)), run)
    early = polyprag("ask", run, QUESTIONS[0], "--mode", "routed")
    assert early.exit_code == 2 and "run `polyprag distill RUN` first" in early.stderr
    made = polyprag("distill", run, "--hidden", 8, "--epochs", 2)
    assert made.exit_code == 0, made.output
    assert f"{run}/router: " in made.stdout and "questions on 10 passages; cosine" in made.stdout
    assert "8 hidden units can't hold 10 passages" in made.stderr
    answer = polyprag("ask", run, QUESTIONS[0], "--mode", "routed", "--json")
    assert answer.exit_code == 0, answer.output
    record = json.loads(answer.stdout)
    assert record["mode"] == "routed" and record["passages"] == [] and len(record["experts"]) == 16
    (tmp_path / "q.jsonl").write_text(
        json.dumps({"id": "1", "question": QUESTIONS[0], "answers": ["Oslo"]})
    )
    scored = polyprag(
        "evaluate", run, "--questions", tmp_path / "q.jsonl", "--methods", "poly,routed",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert scored.exit_code == 0, scored.output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["routed"]["n"] == 1 and results["routed"]["gold_retrieved"] is None


def _other_experts(run: Path) -> None:
    path = run / "encoding" / "experts.safetensors"
    state = load_file(path)
    save_file({name: tensor + 1 for name, tensor in state.items()}, path)
    manifest = EncodingManifest.load(run / "encoding")
    experts = structs.replace(manifest.experts, sha256=sha256_of(path))
    structs.replace(manifest, experts=experts).save(run / "encoding")


def _fewer_rows(run: Path) -> None:
    manifest = EncodingManifest.load(run / "encoding")
    parts = manifest.parts[:-1]
    num_passages = sum(part.num_passages for part in parts)
    structs.replace(manifest, parts=parts, num_passages=num_passages).save(run / "encoding")


@pytest.mark.parametrize("change", [_other_experts, _fewer_rows])
def test_a_map_of_another_encoding_is_refused(
    routed_run: tuple[Path, Config], change: Callable[[Path], None]
) -> None:
    run, config = routed_run
    change(run)
    with pytest.raises(RunError, match=r"router\.json: RUN/encoding has changed.*distill"):
        open_routed(run, config)
    assert any("router.json: RUN/encoding has changed" in each for each in problems(run))
    distill(run, config, hidden=4, epochs=1)
    open_routed(run, config)


def test_a_map_of_another_encoder_is_refused(routed_run: tuple[Path, Config]) -> None:
    run, config = routed_run
    other = replace(config, index=replace(config.index, lsa_dims=8))
    build_index(run, other)
    with pytest.raises(RunError, match=r"router\.json: the encoder of RUN/index has changed"):
        open_routed(run, other)
    (message,) = problems(run, quick=True)
    assert "the encoder of RUN/index has changed" in message
    build_index(run, config)
    assert problems(run) == []


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("name", ["router.json", "router.safetensors"])
@pytest.mark.parametrize("damage", [_cut, Path.unlink])
def test_a_damaged_map_is_refused_and_told(
    routed_run: tuple[Path, Config], name: str, damage: Callable[[Path], None]
) -> None:
    run, config = routed_run
    assert problems(run) == []
    path = run / "router" / name
    damage(path)
    with pytest.raises(Exception, match=f"{name}.*") as refused:
        open_routed(run, config)
    assert "again" in str(refused.value) or "distill" in str(refused.value)
    (message,) = problems(run, quick=True)
    assert message.startswith(str(path))


def test_a_changed_byte_of_the_weights_is_seen(routed_run: tuple[Path, Config]) -> None:
    run, config = routed_run
    _flip(run / "router" / "router.safetensors")
    with pytest.raises(RunError, match=r"router\.safetensors: SHA-256 differs"):
        open_routed(run, config)
    (message,) = problems(run)
    assert "SHA-256 differs" in message and problems(run, quick=True) == []


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"format": "polyprag-index"},
        {"version": 9},
        {"num_sites": 0},
        {"num_sites": "2"},
        {"sha256": 3},
        {"made_of": {"encoding": "x"}},
        {"cosine": "high"},
    ],
)
def test_settings_that_can_not_be_are_refused(
    routed_run: tuple[Path, Config], values: list[object] | dict[str, object]
) -> None:
    run, config = routed_run
    path = run / "router" / "router.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps(before | values if isinstance(values, dict) else values))
    with pytest.raises(RunError, match=r"router\.json: .*"):
        open_routed(run, config)
    (message,) = problems(run)
    assert str(path) in message


def test_removing_a_passage_deletes_the_map(routed_run: tuple[Path, Config]) -> None:
    run, config = routed_run
    result = polyprag("remove", run, "--ids", 4, "--yes", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert f"{run}/router: deleted" in result.stdout
    assert not (run / "router").exists() and problems(run) == []
    assert distill(run, config, hidden=4, epochs=1).settings.num_passages == 9
    assert polyprag("remove", run, "--ids", 4, "--yes", "--workers", 1).exit_code == 0


def test_by_default_the_map_grows_with_the_passages(augmented_run: tuple[Path, Config]) -> None:
    run, config = augmented_run
    assert distill(run, config, epochs=1).hidden == 20
    tensors = load_file(run / "router" / "router.safetensors")
    assert len(tensors["hidden.bias"]) == 20


def test_what_there_must_be_to_distil_from_is_named(encoded_run: tuple[Path, Config]) -> None:
    run, config = encoded_run
    with pytest.raises(RunError, match=r"no passage has a question .*`polyprag augment RUN`"):
        distill(run, config, hidden=4, epochs=1)
    assert not (run / "router").exists()


def test_a_row_that_is_not_finite_names_its_passage(augmented_run: tuple[Path, Config]) -> None:
    run, config = augmented_run
    manifest = EncodingManifest.load(run / "encoding")
    part = manifest.parts[1]
    rows = load_rows(run / "encoding" / part.file)
    rows.rows[2, 0, 1] = np.nan
    sha256, _ = save_rows(run / "encoding" / part.file, rows, moments=False)
    changed = structs.replace(part, sha256=sha256)
    structs.replace(manifest, parts=(manifest.parts[0], changed, *manifest.parts[2:])).save(
        run / "encoding"
    )
    with pytest.raises(RunError, match=f"passage {part.first_id + 2} isn't finite"):
        distill(run, config, epochs=1)
    assert not (run / "router").exists()

"""What a teacher says: against a dense one on the fly; made once, and again only where it must."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save
from torch.distributions import Categorical, kl_divergence
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from cluster.checkpoints.manifest import CheckpointManifest, StateFile, identity_of
from cluster.plan.phases import Phase
from polyprag.answering.generation import decode_greedily
from polyprag.augment.corpus import counts_of
from polyprag.cli import main
from polyprag.config import Config, DataConfig, GenerationConfig, ModelConfig, TrainConfig
from polyprag.config.files import save_config
from polyprag.encoding.base import describe_base
from polyprag.errors import FileError, RunError
from polyprag.method.base_model import load_base, load_tokenizer, vocab_size_of
from polyprag.method.batches.padded import pad_batch
from polyprag.method.examples import UNANSWERED, ExampleMaker
from polyprag.method.experts import inject
from polyprag.method.loss import training_loss_sum
from polyprag.method.teacher.targets import join_targets
from polyprag.teaching.manifest import TeachingManifest, needs_teacher
from polyprag.teaching.part_file import parse_answers
from polyprag.teaching.reader import TaughtAnswers, open_taught, read_part
from polyprag.teaching.teach import forget_taught, teach_corpus
from polyprag.teaching.teacher import PassageQuestion, Teacher
from polyprag.verify.teacher import verify_teacher
from sharding.change.removal import remove_passages
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import QA, Augmentation, Passage, Record
from sharding.corpus.reader import Corpus
from sharding.corpus.rewrite import Rewritten, rewrite_partitions
from sharding.ingest.prepare import prepare
from sharding.shown_progress import show_nothing
from sharding.stream.plan import Cursor, LaneCursor
from sharding.task_pool import InlinePool

NAMES = ("Anna", "Boris", "Carla", "Dario", "Edith", "Felix", "Greta", "Hugo", "Irene", "Jonas")
VOCABULARY = 258
EOS = 257


@pytest.fixture(scope="module")
def base(
    tmp_path_factory: pytest.TempPathFactory,
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> Path:
    directory = tmp_path_factory.mktemp("base")
    make_random_llama(seed=3).save_pretrained(directory)
    make_byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def config(base: Path) -> Config:
    return Config(
        model=ModelConfig(path=str(base)),
        data=DataConfig(formats=["qa"]),
        generation=GenerationConfig(max_new_tokens=5, batch_size=3),
        train=TrainConfig(objective="distill", teacher_top_k=8, max_tokens=600),
    )


def qas_of(name: str) -> tuple[QA, ...]:
    return (
        QA(f"Where was {name} born?", f"{name}burg", ""),
        QA(f"What was {name}?", "a sailor of the north", ""),
    )


def augmented(records: list[Record]) -> list[Record]:
    return [
        msgspec.structs.replace(record, augmentation=Augmentation((), qas_of(record.passage.title)))
        for record in records
    ]


def rewrite(run: Path, transform: Callable[[list[Record]], list[Record]], *which: int) -> None:
    rewrite_partitions(
        run / "corpus",
        lambda partition: lambda records: Rewritten(transform(records)),
        needs=lambda partition: not which or partition.index in which,
        describe=lambda: {"backend": "rules"},
        count=counts_of,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Ten passages in partitions of four, with two questions each."""
    run = tmp_path / "run"
    source = tmp_path / "passages.jsonl"
    lines = [
        json.dumps({"id": f"p{i}", "title": name, "text": f"{name} of {name}burg was a sailor."})
        for i, name in enumerate(NAMES)
    ]
    source.write_text("\n".join(lines))
    prepare([str(source)], run / "corpus", partition_size=4)
    rewrite(run, augmented)
    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that a teacher is asked, in order."""
    found: list[str] = []
    real = Teacher.answer

    def answer(self: Teacher, asked: Sequence[PassageQuestion], **options: Any) -> Any:
        found.extend(each.question for each in asked)
        return real(self, asked, **options)

    monkeypatch.setattr(Teacher, "answer", answer)
    return found


def taught(run: Path, config: Config) -> TaughtAnswers:
    corpus = CorpusManifest.load(run / "corpus")
    base = describe_base(config.model, load_tokenizer(config.model))
    found = open_taught(str(run), config, corpus, base=base, vocab_size=VOCABULARY)
    assert found is not None
    return found


def all_questions() -> list[str]:
    return [qa.question for name in NAMES for qa in qas_of(name)]


@pytest.mark.parametrize("top_k", [8, 1000])
def test_the_stored_loss_is_that_of_a_dense_teacher_on_the_fly(
    run: Path, config: Config, top_k: int
) -> None:
    config = replace(config, train=replace(config.train, teacher_top_k=top_k))
    teach_corpus(str(run), config)
    model, tokenizer = load_base(config.model)
    assert vocab_size_of(model) == VOCABULARY
    pool = inject(model, config.experts, config.router, seed=0)
    generator = torch.Generator().manual_seed(1)
    pool.load_state_dict(
        {n: 0.2 * torch.randn(t.shape, generator=generator) for n, t in pool.state_dict().items()}
    )
    gates = torch.randn(10, pool.num_sites, pool.num_experts, generator=generator)
    gates.requires_grad_()
    records = list(Corpus.open(run / "corpus").iterate())

    def at_answer(prompt: str, answer: str) -> torch.Tensor:
        start = tokenizer(prompt)["input_ids"]
        end = [*tokenizer(f" {answer}")["input_ids"], EOS]
        logits = model(torch.tensor([start + end]), use_cache=False).logits[0]
        return logits[len(start) - 1 : -1].double()

    dense, inside = torch.zeros((), dtype=torch.float64), 0.0
    for record in records:
        passage = record.passage
        for qa in qas_of(passage.title):
            asking = f"Question: {qa.question}\nAnswer:"
            with torch.no_grad():
                of_teacher = at_answer(
                    f"Passage: {passage.title}. {passage.text}\n{asking}", qa.answer
                )
            with pool.gated(gates[passage.id : passage.id + 1]):
                of_student = at_answer(asking, qa.answer)
            p, q = Categorical(logits=of_teacher), Categorical(logits=of_student)
            dense = dense + kl_divergence(p, q).sum()
            for one_p, one_q in zip(p.probs, q.probs.detach(), strict=True):
                tail = one_p.argsort(descending=True)[top_k:]
                if len(tail):
                    one_p, one_q = one_p[tail], one_q[tail]
                    ratio = (one_p / one_p.sum()) / (one_q / one_q.sum())
                    inside += float((one_p * ratio.log()).sum())
    (dense_gradient,) = torch.autograd.grad(dense, gates)

    maker = ExampleMaker(tokenizer, config.data, objective="distill", taught=taught(run, config))
    examples = maker.make([(record, number) for record in records for number in range(2)])
    batch, targets = pad_batch(examples, 256), join_targets(examples)
    with pool.gated(gates[[example.passage_id for example in examples]]):
        logits = model(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    loss = training_loss_sum(logits, batch.labels, targets, distill_weight=1.0)
    (gradient,) = torch.autograd.grad(loss, gates)
    num_tokens = sum(len(f" {qa.answer}") + 1 for name in NAMES for qa in qas_of(name))
    assert sum(example.num_counted for example in examples) == num_tokens
    assert loss.item() == pytest.approx(dense.item() - inside, rel=2e-3)
    assert 0 <= inside < 0.5 * dense.item()
    if top_k > VOCABULARY:
        assert inside == 0
        torch.testing.assert_close(gradient, dense_gradient, atol=0.02, rtol=0.02)
    else:
        cosine = torch.cosine_similarity(gradient.flatten(), dense_gradient.flatten(), dim=0)
        assert cosine > 0.8


class StoppedError(Exception):
    """The pool's owner was told to end."""


class StoppingPool(InlinePool):
    """Is stopped after so many tasks."""

    def __init__(self, after: int) -> None:
        self._after = after

    def map(self, function: Any, tasks: Iterable[Any], **options: Any) -> Iterator[Any]:
        for number, task in enumerate(tasks):
            if number == self._after:
                raise StoppedError
            yield function(task)


def test_a_stopped_teacher_goes_on_where_it_was(
    run: Path, config: Config, asked: list[str], tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        teach_corpus(str(run), config, pool=StoppingPool(2))
    assert asked == all_questions()[:16]
    with pytest.raises(RunError, match=r"has nothing on the questions of partition 2.*teach RUN"):
        taught(run, config)
    manifest = teach_corpus(str(run), config)
    assert asked == all_questions()
    assert [part.num_questions for part in manifest.parts] == [8, 8, 4]
    assert teach_corpus(str(run), config) == manifest and len(asked) == 20
    named = {part.file for part in manifest.parts} | {"manifest.json"}
    assert {path.name for path in (run / "teacher").iterdir()} == named


def test_only_what_changed_is_asked_again(run: Path, config: Config, asked: list[str]) -> None:
    before = teach_corpus(str(run), config)
    old = taught(run, config)
    kept = [old.of(5, number) for number in range(2)]

    def changed(records: list[Record]) -> list[Record]:
        first = records[0].augmentation
        assert first is not None
        more = (QA("Who was first?", "Edith", ""), *first.qas)
        new = msgspec.structs.replace(records[0], augmentation=Augmentation((), more))
        return [new, *records[1:]]

    asked.clear()
    rewrite(run, changed, 1)
    after = teach_corpus(str(run), config)
    assert asked == ["Who was first?"]
    assert [part.sha256 for part in after.parts[::2]] == [part.sha256 for part in before.parts[::2]]
    new = taught(run, config)
    for number in range(2):
        for mine, theirs in (
            (new.of(5, number), kept[number]),
            (new.of(4, number + 1), old.of(4, number)),
        ):
            assert np.array_equal(mine.ids, theirs.ids)
            assert np.array_equal(mine.targets.ids, theirs.targets.ids)
            assert np.array_equal(mine.targets.log_probs, theirs.targets.log_probs)
    with pytest.raises(RunError, match="no answer to question 2 on passage 5"):
        new.of(5, 2)


@pytest.mark.parametrize(
    "changed",
    [
        {"train": TrainConfig(objective="distill", teacher_top_k=9)},
        {"train": TrainConfig(objective="distill", teacher_top_k=8, teacher_answers="all")},
    ],
)
def test_another_teacher_is_asked_everything(
    run: Path, config: Config, asked: list[str], changed: dict[str, Any]
) -> None:
    teach_corpus(str(run), config)
    other = replace(config, **changed)
    with pytest.raises(RunError, match=r"of other generation|has other answers than .*answers"):
        taught(run, other)
    asked.clear()
    teach_corpus(str(run), other)
    assert asked == all_questions()
    assert len(list((run / "teacher").iterdir())) == 4  # and nothing of the other is left


def test_a_teacher_that_fails_at_once_leaves_what_another_has_said(
    run: Path, config: Config
) -> None:
    before = teach_corpus(str(run), config)
    other = replace(config, train=replace(config.train, teacher_top_k=9))
    with pytest.raises(StoppedError):
        teach_corpus(str(run), other, pool=StoppingPool(0))
    assert teach_corpus(str(run), config, pool=StoppingPool(0)) == before


def test_what_changes_nothing_that_it_says_belongs_to_no_teacher(
    run: Path, config: Config, asked: list[str]
) -> None:
    teach_corpus(str(run), config)
    # No chat template is told anything here, and all answers are written.
    generation = GenerationConfig(
        batch_size=1,
        max_new_tokens=200,
        prompt="plain",
        date="2031-12-01",
        instruction="Sing.",
        thinking="template",
    )
    other = replace(config, generation=generation, train=replace(config.train, max_tokens=100))
    assert taught(run, other).of(0, 0).ids.tolist() == taught(run, config).of(0, 0).ids.tolist()
    teach_corpus(str(run), other)
    assert len(asked) == 20


def test_what_a_chat_template_is_told_belongs_to_the_teacher(
    run: Path, base: Path, config: Config, asked: list[str], tmp_path: Path
) -> None:
    chats = tmp_path / "chats"
    shutil.copytree(base, chats)
    tokenizer = load_tokenizer(config.model)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %} -> "
    tokenizer.save_pretrained(chats)
    config = replace(config, model=ModelConfig(path=str(chats)))
    teach_corpus(str(run), config)
    for told in ({"prompt": "chat"}, {"instruction": "Sing."}):
        asked.clear()
        teach_corpus(str(run), replace(config, generation=replace(config.generation, **told)))
        assert asked == ([] if "prompt" in told else all_questions())


def with_most(config: Config, most: int) -> Config:
    return replace(config, generation=replace(config.generation, max_new_tokens=most))


def blank_first(records: list[Record]) -> list[Record]:
    """Takes the answer of each passage's first question away."""
    return [
        msgspec.structs.replace(
            record,
            augmentation=Augmentation((), (msgspec.structs.replace(first, answer=""), *others)),
        )
        for record in records
        for first, *others in [qas_of(record.passage.title)]
    ]


def test_more_tokens_are_asked_for_where_the_answers_are_its_own(
    run: Path, config: Config, asked: list[str]
) -> None:
    rewrite(run, blank_first, 1)
    before = teach_corpus(str(run), config)
    assert [part.num_written for part in before.parts] == [0, 4, 0]
    more = replace(config, generation=replace(config.generation, max_new_tokens=9))
    with pytest.raises(RunError, match=r"partition 1 .*generation.max_new_tokens ask for"):
        taught(run, more)
    asked.clear()
    after = teach_corpus(str(run), more)
    assert asked == all_questions()[8:16:2]  # and not the four that have an answer
    assert after.parts[0] == before.parts[0] and after.parts[2] == before.parts[2]
    assert max(len(taught(run, more).of(passage, 0).ids) for passage in range(4, 8)) > 6


def test_what_an_earlier_version_kept_of_a_teacher_stays(
    run: Path, config: Config, asked: list[str]
) -> None:
    rewrite(run, blank_first, 1)
    teach_corpus(str(run), config)
    file = run / "teacher" / "manifest.json"
    manifest = json.loads(file.read_text())
    for part in manifest["parts"]:
        for name in ("num_cut", "answers", "max_new_tokens"):
            del part[name]
    manifest["settings"] = {
        "generation.max_new_tokens": 5,
        "generation.prompt": "auto",
        "generation.date": "2024-07-26",
        "generation.instruction": "Answer with as few words as possible.",
        "generation.thinking": "never",
        "model.dtype": "auto",
        "train.teacher_answers": "missing",
        "train.teacher_top_k": 8,
    }
    file.write_text(json.dumps(manifest))
    asked.clear()
    teach_corpus(str(run), config)
    assert asked == []
    taught(run, config)
    teach_corpus(str(run), replace(config, generation=replace(config.generation, max_new_tokens=9)))
    assert asked == all_questions()[8:16:2]


class Killed(BaseException):
    """Stands for a signal that ends the process."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Kills the teacher when it is asked for the time after so many; it writes at once."""
    monkeypatch.setattr("polyprag.teaching.asked._WRITE_EVERY_S", 0.0)
    monkeypatch.setattr("polyprag.teaching.task._AT_A_TIME", 3)
    answer = Teacher.answer

    def kill(after: int) -> None:
        calls = iter(range(1000))

        def dying(self: Teacher, asked: Sequence[PassageQuestion], **options: Any) -> Any:
            if next(calls) == after:
                raise Killed
            return answer(self, asked, **options)

        monkeypatch.setattr(Teacher, "answer", dying)

    return kill


def test_a_teacher_stopped_within_a_partition_says_the_same_to_the_bit(
    run: Path,
    config: Config,
    asked: list[str],
    killed_after: Callable[[int], None],
    tmp_path: Path,
) -> None:
    rewrite(run, blank_first, 1)
    straight = tmp_path / "straight"
    shutil.copytree(run, straight)
    expected = teach_corpus(str(straight), config)
    asked.clear()
    # Questions are asked in threes, and the last of eight in a two.
    for after in (2, 1, 3, 0, 100):
        killed_after(after)
        if after == 100:
            manifest = teach_corpus(str(run), config)
        else:
            with pytest.raises(Killed):
                teach_corpus(str(run), config)
    assert asked == all_questions()  # each once
    assert manifest == expected
    names = {part.file for part in manifest.parts} | {"manifest.json"}
    assert {path.name for path in (run / "teacher").iterdir()} == names


def test_only_the_same_teacher_goes_on_with_what_was_asked(
    run: Path, config: Config, asked: list[str], killed_after: Callable[[int], None]
) -> None:
    killed_after(2)
    with pytest.raises(Killed):
        teach_corpus(str(run), config)
    first, second = sorted((run / "teacher").iterdir())
    second.write_bytes(first.read_bytes()[:-1] + b"x")  # damaged
    asked.clear()
    killed_after(2)
    with pytest.raises(Killed):
        teach_corpus(str(run), config)
    questions = all_questions()
    by_name = sorted(asked, key=questions.index)
    assert by_name in (questions[:3] + questions[6:8], questions[3:8])
    killed_after(100)
    asked.clear()
    other = replace(config, train=replace(config.train, teacher_top_k=9))
    teach_corpus(str(run), other)
    assert asked == questions


def test_removed_passages_go_from_what_was_asked_as_well(
    run: Path, config: Config, killed_after: Callable[[int], None]
) -> None:
    killed_after(4)  # one partition, and three questions of the next
    with pytest.raises(Killed):
        teach_corpus(str(run), config)
    names = [path.name for path in (run / "teacher").iterdir()]
    assert sorted(name.split("-")[0] for name in names) == ["asked", "manifest.json", "part"]
    problems, _ = verify_teacher(str(run), quick=False, show=show_nothing)
    assert problems == []  # it is what the next `teach` goes on with
    remove_passages(run / "corpus", [4], count=counts_of)
    forget_taught(str(run), [4])
    assert not [name for name in (run / "teacher").iterdir() if name.name.startswith("asked")]


def greedy(model: Any, ids: list[int], most: int) -> list[int]:
    said: list[int] = []
    newline = 198  # of the byte-level alphabet
    while len(said) < most:
        with torch.no_grad():
            token = int(model(torch.tensor([ids + said]), use_cache=False).logits[0, -1].argmax())
        if token == EOS:
            break
        said.append(token)
        if token == newline:
            break
    return said


def test_a_question_without_an_answer_gets_the_teachers_own(run: Path, config: Config) -> None:
    def blanked(records: list[Record]) -> list[Record]:
        return [
            msgspec.structs.replace(
                record,
                augmentation=Augmentation(
                    (), (QA(f"Who is {record.passage.title}?", " ", ""), *qas_of("X"))
                ),
            )
            for record in records
        ]

    rewrite(run, blanked, 0)
    answers = replace(config, train=replace(config.train, objective="answers"))
    corpus = CorpusManifest.load(run / "corpus")
    assert corpus.partitions[0].counts[UNANSWERED] == 4
    assert needs_teacher(answers, corpus) and UNANSWERED not in corpus.partitions[1].counts
    manifest = teach_corpus(str(run), answers)
    assert [part.num_written for part in manifest.parts] == [4, 0, 0]

    model, tokenizer = load_base(config.model)
    maker = ExampleMaker(tokenizer, config.data, loss_on="answer", taught=taught(run, answers))
    records = list(Corpus.open(run / "corpus").iterate())
    num_cut = 0
    for record in records[:4]:
        passage = record.passage
        question = f"Question: Who is {passage.title}?\nAnswer:"
        prompt = tokenizer(f"Passage: {passage.title}. {passage.text}\n{question}")["input_ids"]
        said = tokenizer.decode(greedy(model, prompt, 5)).split("\n")[0].strip()
        unanswered, written = maker.make([(record, 0), (record, 1)])
        tokens = greedy(model, prompt, 5)
        is_cut = len(tokens) == 5 and tokens[-1] != 198 and bool(said)
        num_cut += is_cut
        assert tokenizer.decode(unanswered.input_ids.tolist()) == (
            f"{question} {' '.join(said.split())}{'' if is_cut else '<eos>'}"
        )
        assert tokenizer.decode(written.input_ids.tolist()).endswith("Answer: Xburg<eos>")
        assert unanswered.targets is None  # the text is learnt
        learnt = unanswered.labels[unanswered.labels >= 0]
        assert len(learnt) == len(unanswered) - len(tokenizer(question)["input_ids"])
    assert [part.num_cut for part in manifest.parts] == [num_cut, 0, 0] and num_cut
    alone = ExampleMaker(tokenizer, config.data, loss_on="answer")
    with pytest.raises(RunError, match=r"'Who is Anna\?' on passage 0 has no answer.*teach RUN"):
        alone.make([(records[0], 0)])


def test_removed_passages_go_and_the_others_arent_asked_again(
    run: Path, config: Config, asked: list[str]
) -> None:
    before = teach_corpus(str(run), config)
    old = taught(run, config)
    kept = old.of(6, 1)
    gone = old.of(5, 0).targets.log_probs.tobytes()
    file = run / "teacher" / before.parts[1].file
    assert gone in file.read_bytes()
    remove_passages(run / "corpus", [5], count=counts_of)
    forget_taught(str(run), [5])
    assert not file.exists()
    assert all(gone not in path.read_bytes() for path in (run / "teacher").iterdir())
    forget_taught(str(run), [5])
    asked.clear()
    manifest = teach_corpus(str(run), config)
    assert asked == [] and [part.num_questions for part in manifest.parts] == [8, 6, 4]
    assert np.array_equal(taught(run, config).of(6, 1).targets.log_probs, kept.targets.log_probs)


def test_a_damaged_file_is_named_and_made_anew(run: Path, config: Config, asked: list[str]) -> None:
    manifest = teach_corpus(str(run), config)
    path = run / "teacher" / manifest.parts[2].file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match=rf"{path.name}: SHA-256 differs.*delete .*teacher"):
        taught(run, config).of(8, 0)
    remove_passages(run / "corpus", [9], count=counts_of)
    forget_taught(str(run), [9])  # can't be read: it goes as a whole
    assert not path.exists()
    asked.clear()
    teach_corpus(str(run), config)
    assert asked == all_questions()[16:18]


def test_a_long_passage_is_cut_as_the_mode_rag_cuts_it(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    config: Config,
) -> None:
    model, tokenizer = make_random_llama(window=80), make_byte_tokenizer()
    seen: list[list[int]] = []
    model.register_forward_pre_hook(
        lambda _, args, inputs: seen.append(inputs["input_ids"][0].tolist()), with_kwargs=True
    )
    passage = Passage(0, "k", "Ada", "one two three four five six seven eight nine ten eleven")
    (said,) = Teacher(model, tokenizer, config).answer(
        [PassageQuestion(passage, "Who?", "one two three")]
    )
    (ids,) = seen
    # 80 less the answer's 15 bytes with its space and EOS, of which the rest takes 38.
    expected = "Passage: Ada. one two three four five six\nQuestion: Who?\nAnswer: one two three"
    assert tokenizer.decode(ids) == f"{expected}<eos>"
    assert len(ids) <= 80 < len(ids) + len(" seven")
    assert len(said.ids) == len(said.targets) == 15
    seen.clear()
    long = Passage(0, "k", "Ada", "A text.")
    (said,) = Teacher(model, tokenizer, config).answer([PassageQuestion(long, "Why? " * 30, "no")])
    assert len(seen[0]) == 80 and len(said.ids) == 4


def test_the_vocabulary_is_gone_through_at_answers_alone(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    config: Config,
) -> None:
    model, tokenizer = make_random_llama(), make_byte_tokenizer()
    seen: list[tuple[int, ...]] = []
    model.lm_head.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    passages = [Passage(i, str(i), "Ada", "A text" + "s" * i) for i in range(2)]
    asked = [PassageQuestion(passage, "Who?", "no") for passage in passages]
    Teacher(model, tokenizer, config).answer(asked)
    assert seen == [(2, 5)]  # a space, two letters and EOS, of two prompts that end a token apart


@pytest.mark.parametrize("architecture", ["llama", "mistral", "opt", "mamba"])
def test_a_passage_is_read_once_for_its_questions_and_what_is_said_stays(
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
) -> None:
    sizes = {
        **{"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"intermediate_size": 48, "ffn_dim": 48, "word_embed_proj_dim": 32, "state_size": 4},
        **{"sliding_window": 20, "max_position_embeddings": 512, "pad_token_id": 256},
        **{"eos_token_id": 257, "bos_token_id": None, "initializer_range": 0.3, "dropout": 0.0},
        "num_key_value_heads": 2,
    }
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes)).eval()
    tokenizer = make_byte_tokenizer()
    passages = [Passage(i, str(i), "Ada", "A text of some length, " * (6 + i)) for i in range(3)]
    asked = [
        PassageQuestion(passages[at], question, answer)
        for at, question, answer in (
            (0, "Who was it?", "Ada"),
            (1, "Who?", None),
            (2, "Of what?", "some length"),
            (0, "What?", "a text, by the way"),
            (1, "Who was that?", None),
            (0, "What was it about?", "no"),
        )
    ]
    read: list[int] = []
    count = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, args: read.append(args[0].numel())
    )
    found = Teacher(model, tokenizer, config).answer(asked)
    count.remove()
    with monkeypatch.context() as alone:
        alone.setattr("polyprag.teaching.teacher.pass_overhead", lambda _: 10**9)
        seen: list[int] = []
        model.get_input_embeddings().register_forward_pre_hook(
            lambda _, args: seen.append(args[0].numel())
        )
        expected = Teacher(model, tokenizer, config).answer(asked)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.ids, theirs.ids)
        np.testing.assert_array_equal(ours.targets.ids, theirs.targets.ids)
        np.testing.assert_allclose(ours.targets.log_probs, theirs.targets.log_probs, atol=0.02)
    if architecture == "mamba":  # keeps more than keys and values
        assert read == seen
    else:
        assert sum(read) < 0.75 * sum(seen)


def test_prompts_that_share_nothing_are_decoded_together(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    def noting(model: Any, tokenizer: Any, prompts: Any, **kwargs: Any) -> Any:
        sizes.append(len(prompts))
        return decode_greedily(model, tokenizer, prompts, **kwargs)

    monkeypatch.setattr("polyprag.teaching.teacher.decode_greedily", noting)
    passages = [Passage(i, str(i), "Ada", "A text" + "s" * i) for i in range(3)]
    asked = [PassageQuestion(passage, "Who?", None) for passage in passages]
    found = Teacher(make_random_llama(), make_byte_tokenizer(), config).answer(asked)
    assert sizes == [3] and len(found) == 3


def test_the_date_in_a_chat_template_is_the_runs_and_not_todays(
    make_random_llama: Callable[..., LlamaForCausalLM],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
    config: Config,
) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b %Y') }}: {% for m in messages %}{{ m.content }}{% endfor %} -> "
    )
    model = make_random_llama()
    seen: list[list[int]] = []
    model.register_forward_pre_hook(
        lambda _, args, inputs: seen.append(inputs["input_ids"][0].tolist()), with_kwargs=True
    )
    passage = Passage(0, "k", "Ada", "A text.")
    generation = replace(config.generation, date="2031-12-01", instruction="")
    Teacher(model, tokenizer, replace(config, generation=generation)).answer(
        [PassageQuestion(passage, "Who?", "Ada")]
    )
    expected = "01 Dec 2031: Passage: Ada. A text.\nQuestion: Who?\nAnswer: -> Ada<eos>"
    assert tokenizer.decode(seen[0]) == expected


def test_the_command_asks_and_says_what_it_has(run: Path, config: Config) -> None:
    save_config(replace(config, train=TrainConfig(teacher_top_k=8)), run)
    result = CliRunner().invoke(main, ["teach", str(run)])
    assert result.exit_code == 2 and "set train.objective=distill or both" in result.output
    arguments = ["teach", str(run), "train.objective=both", "--workers", "1", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    fields = json.loads(result.stdout)
    manifest = TeachingManifest.load(run / "teacher")
    assert fields["num_questions"] == 20 and fields["num_written"] == fields["num_empty"] == 0
    assert fields["num_bytes"] == sum(part.num_bytes for part in manifest.parts)
    # 20 bytes a question and 6 k + 6 a token, besides the header and a count for each passage.
    needed = 20 * 20 + fields["num_tokens"] * 54 + 4 * 10
    assert needed < fields["num_bytes"] < needed + 3 * 700


def test_the_command_counts_cut_answers_and_says_what_to_set(run: Path, config: Config) -> None:
    rewrite(run, blank_first, 1)
    save_config(config, run)

    setting = "generation.max_new_tokens=1"  # of which no word and its end can be made
    done = CliRunner().invoke(main, ["teach", str(run), setting, "--workers", "1", "--json"])
    assert done.exit_code == 0, done.output
    fields, manifest = json.loads(done.stdout), TeachingManifest.load(run / "teacher")
    said_of = taught(run, with_most(config, 1))
    num_cut = sum(EOS not in said_of.of(passage, 0).ids for passage in range(4, 8))
    assert fields["num_written"] == 4 and num_cut > 2
    assert fields["num_cut"] == num_cut == sum(part.num_cut for part in manifest.parts)
    assert f"warning: most of the teacher's own answers ({num_cut} of 4) are cut" in done.stderr
    assert "set generation.max_new_tokens=2" in done.stderr
    shown = CliRunner().invoke(main, ["teach", str(run), "--workers", "1"])
    assert f", {num_cut} of them cut before their end" in shown.stdout


def test_settings_that_encode_would_refuse_are_refused_before_they_are_saved(
    run: Path, config: Config, asked: list[str]
) -> None:
    plain = replace(config, train=replace(config.train, objective="answers"))
    save_config(plain, run)
    base = describe_base(config.model, load_tokenizer(config.model))
    corpus = CorpusManifest.load(run / "corpus")
    CheckpointManifest(
        step=7,
        cursor=Cursor(0, 7, (LaneCursor(1, 2),)),
        world_size=2,
        identity=identity_of(plain, corpus, base),
        experts=StateFile("experts-step-00000007.safetensors", "a" * 64, 10),
        phases=(Phase(0, 9, 0, 3, 4),),
        rows={},
        previous_step=0,
    ).save(str(run / "checkpoints"))
    before = (run / "config.yaml").read_bytes()
    refused = CliRunner().invoke(main, ["teach", str(run), "train.objective=both"])
    assert refused.exit_code == 2
    assert "step 7 that was trained with train.objective='answers'" in refused.output
    assert " -> " not in refused.output  # nothing is said to change
    assert (run / "config.yaml").read_bytes() == before and asked == []
    assert not (run / "teacher").exists()


def test_passages_without_questions_leave_nothing_to_ask(
    run: Path, config: Config, asked: list[str], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    prepare([str(tmp_path / "passages.jsonl")], other / "corpus", partition_size=4)
    with pytest.raises(RunError, match="partition 0 isn't augmented"):
        teach_corpus(str(other), config)
    rewrite(other, lambda records: records)
    manifest = teach_corpus(str(other), config)
    assert [part.num_questions for part in manifest.parts] == [0, 0, 0] and asked == []
    record = next(Corpus.open(other / "corpus").iterate())
    maker = ExampleMaker(
        load_tokenizer(config.model), config.data, objective="distill", taught=taught(other, config)
    )
    (example,) = maker.make([(record, 0)])
    assert example.targets is None and example.num_counted == len(example) - 1  # plain text


def test_as_many_partitions_stay_in_memory_as_lanes_read(
    run: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    prepare([str(tmp_path / "passages.jsonl")], small / "corpus", partition_size=1)
    rewrite(small, augmented)
    teach_corpus(str(small), config)
    read: list[int] = []

    def counted(run_dir: str, part: Any, **options: Any) -> Any:
        read.append(part.index)
        return read_part(run_dir, part, **options)

    monkeypatch.setattr("polyprag.teaching.reader.read_part", counted)
    base = describe_base(config.model, load_tokenizer(config.model))
    corpus = CorpusManifest.load(small / "corpus")

    def again(num_lanes: int, num_partitions: int) -> bool:
        """Whether any of so many partitions is read twice when each is asked for twice."""
        found = open_taught(
            str(small),
            config,
            corpus,
            base=base,
            vocab_size=VOCABULARY,
            num_lanes=num_lanes,
        )
        assert found is not None
        read.clear()
        for passage in [*range(num_partitions), *range(num_partitions)]:
            found.of(passage, 1)
        return len(read) > num_partitions

    # A partition a lane and the next one, and room for two more.
    assert not again(1, 4) and again(1, 5)
    assert not again(3, 8) and again(3, 9)


def test_verify_reads_every_file_of_a_teacher(run: Path, config: Config) -> None:
    manifest = teach_corpus(str(run), config)
    problems, summary = verify_teacher(str(run), quick=False, show=show_nothing)
    assert problems == [] and summary == "answers to 20 questions in 3 partitions"
    path = run / "teacher" / manifest.parts[1].file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (found,), _ = verify_teacher(str(run), quick=False, show=show_nothing)
    assert path.name in found.message and "SHA-256 differs" in found.message
    assert verify_teacher(str(run), quick=True, show=show_nothing)[0] == []
    path.unlink()
    (found,), _ = verify_teacher(str(run), quick=True, show=show_nothing)
    assert "no such file; delete RUN/teacher" in found.message
    (run / "teacher" / "manifest.json").unlink()
    found_left, summary = verify_teacher(str(run), quick=True, show=show_nothing)
    assert len(found_left) == 2 and summary == "no manifest"


def arrays(**changed: np.ndarray) -> dict[str, Any]:
    """What a file of one passage with one question holds, of two tokens with two kept."""
    sound = {
        "counts": np.array([1], np.int32),
        "keys": np.zeros((1, 16), np.uint8),
        "lengths": np.array([2], np.int32),
        "answers": np.array([5, EOS], np.int32),
        "ids": np.array([[5, 6], [EOS, 1]], np.int32),
        "log_probs": np.full((2, 3), -1.1, np.float16),
    }
    return sound | changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"counts": np.array([2], np.int32)}, "counts and keys"),
        ({"counts": np.array([2, -1], np.int32)}, "counts and keys"),
        ({"lengths": np.array([1], np.int32)}, "lengths and answers"),
        ({"lengths": np.array([0], np.int32)}, "keys and lengths"),
        ({"answers": np.array([5, 258], np.int32)}, "answers holds tokens"),
        ({"ids": np.array([[5, -1], [EOS, 1]], np.int32)}, "ids holds tokens"),
        ({"ids": np.zeros((2, 3), np.int32)}, "ids and log_probs"),
        ({"log_probs": np.full((2, 3), np.nan, np.float16)}, "no log-probability"),
        ({"log_probs": np.full((2, 3), 0.5, np.float16)}, "no log-probability"),
        ({"log_probs": np.zeros((2, 3), np.float32)}, "log_probs must be float16"),
        ({"more": np.zeros(1, np.int32)}, "has the arrays"),
    ],
)
def test_a_file_whose_arrays_cannot_be_is_refused(changed: dict[str, Any], message: str) -> None:
    parse_answers(save(arrays()), vocab_size=VOCABULARY, where="file")
    with pytest.raises(RunError, match=rf"^file: .*{message}.*teach RUN"):
        parse_answers(save(arrays(**changed)), vocab_size=VOCABULARY, where="file")
    with pytest.raises(RunError, match=r"^file: .*teach RUN"):
        parse_answers(save(arrays())[:-3], vocab_size=VOCABULARY, where="file")

"""One partition whose questions the teacher is asked, as a task for any worker.

What an earlier file has of the same passage, question and answer isn't asked again.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import msgspec
from msgspec.structs import replace

from polyprag.config import Config
from polyprag.errors import FileError, RunError
from polyprag.method.base_model import load_base, load_tokenizer
from polyprag.method.teacher.targets import TaughtAnswer
from polyprag.run_dir import CORPUS
from polyprag.teaching.asked import AskedSoFar, questions_in
from polyprag.teaching.manifest import TaughtPart, teacher_dir
from polyprag.teaching.part_file import (
    ANY_TOKEN,
    KEY_BYTES,
    TaughtQuestion,
    part_stem,
    save_answers,
)
from polyprag.teaching.reader import read_part
from polyprag.teaching.teacher import PassageQuestion, Teacher
from sharding.corpus.manifest import Partition
from sharding.corpus.partitions import read_shard
from sharding.corpus.passages import QA, Record
from sharding.corpus.reader import records_in
from sharding.shown_progress import tell_part
from sharding.storage.files import join

# Questions asked together, at least: a stop loses no more, and tensors aren't held of more.
_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class TeachTask:
    """Questions to ask.

    Attributes:
        run_dir: RUN, as the worker sees it.
        partition: whose questions.
        before: what the same teacher said of the partition as it was before.
        teacher: the digest that stands for the teacher.
        asked: names of its files of the partition, where it was stopped in the middle.
        settings: the config, as JSON.
        keeps_model: whether a process keeps the base model for its next task.
    """

    run_dir: str
    partition: Partition
    before: TaughtPart | None
    teacher: str
    asked: tuple[str, ...]
    settings: bytes
    keeps_model: bool


def teach_partition(task: TeachTask) -> TaughtPart:
    """Asks the teacher, writes down what it says, and returns the manifest's entry.

    A process loads the base model for the first question that it must ask.

    Raises:
        CorpusError: the shard is missing or damaged.
        ConfigError: the base model can't be loaded.
    """
    part = task.partition
    shard = join(task.run_dir, CORPUS, part.file)
    records = records_in(read_shard(shard, part), part, url=shard)
    config = msgspec.json.decode(task.settings, type=Config)
    kept = _kept(task)
    asked = [[_asked(record, qa, config) for qa in _qas(record)] for record in records]
    most = config.generation.max_new_tokens
    keys = [[_key(each, most=most) for each in of_passage] for of_passage in asked]
    by_key = dict(zip(chain(*keys), chain(*asked), strict=True))
    try:
        kept |= _ask({key: by_key[key] for key in by_key if key not in kept}, task, config)
    finally:
        if not task.keeps_model:
            release_teacher()
    passages = [[TaughtQuestion(key, kept[key]) for key in of_passage] for of_passage in keys]
    name, sha256, num_bytes = save_answers(
        teacher_dir(task.run_dir),
        part_stem(part.index),
        passages,
        top_k=config.train.teacher_top_k,
    )
    written = [kept[key] for key in chain(*keys) if by_key[key].answer is None]
    return TaughtPart(
        index=part.index,
        shard=part.sha256,
        file=name,
        sha256=sha256,
        num_bytes=num_bytes,
        num_questions=sum(map(len, keys)),
        num_tokens=sum(len(kept[key].ids) for key in chain(*keys)),
        num_written=len(written),
        num_empty=_num_empty(written, config),
        num_cut=_num_cut(written, config),
        answers=config.train.teacher_answers,
        max_new_tokens=most,
    )


def release_teacher() -> None:
    """Lets go of the model that this process has loaded for its tasks."""
    _teacher.cache_clear()


def _qas(record: Record) -> Sequence[QA]:
    return record.augmentation.qas if record.augmentation else ()


def _asked(record: Record, qa: QA, config: Config) -> PassageQuestion:
    is_written = qa.answer.strip() and config.train.teacher_answers != "all"
    return PassageQuestion(record.passage, qa.question, qa.answer if is_written else None)


def _key(asked: PassageQuestion, *, most: int) -> bytes:
    """Returns what stands for a question; `most` tokens may be said where no answer is written."""
    told = [asked.passage.title, asked.passage.text, asked.question, asked.answer]
    if asked.answer is None:
        told.append(str(most))
    return hashlib.sha256(msgspec.json.encode(told)).digest()[:KEY_BYTES]


def _ask(
    questions: Mapping[bytes, PassageQuestion], task: TeachTask, config: Config
) -> dict[bytes, TaughtAnswer]:
    """Returns what the teacher says to each question, by its key."""
    index = task.partition.index
    so_far = AskedSoFar(teacher_dir(task.run_dir), index, teacher=task.teacher, names=task.asked)
    found: dict[bytes, TaughtAnswer] = {}
    keys = list(questions)
    size = max(_AT_A_TIME, config.generation.batch_size)
    for start in range(0, len(keys), size):
        some = keys[start : start + size]

        def progress(share: float, start: int = start, count: int = len(some)) -> None:
            tell_part((start + share * count) / len(keys))

        said = so_far.of(some)
        if said is None:
            asked = [questions[key] for key in some]
            answers = _teacher(task.settings).answer(asked, progress=progress)
            said = dict(zip(some, answers, strict=True))
            so_far.add(said)
        found |= said
        progress(1.0)
    return found


def _kept(task: TeachTask) -> dict[bytes, TaughtAnswer]:
    """Returns what an earlier file has, by key; nothing where it isn't sound."""
    if task.before is None:
        return {}
    try:
        return questions_in(read_part(task.run_dir, task.before, vocab_size=ANY_TOKEN))
    except (RunError, FileError):
        return {}  # asked anew


def without_passages(run_dir: str, part: TaughtPart, gone: Collection[int]) -> TaughtPart | None:
    """Returns a part's entry after some passages are taken out of its file.

    Args:
        run_dir: RUN.
        part: of the manifest.
        gone: places of the passages in the partition.

    Returns:
        The entry of a new file; the same one where they had nothing; None where the file can't be
        read.
    """
    try:
        answers = read_part(run_dir, part, vocab_size=ANY_TOKEN)
    except (RunError, FileError):
        return None
    passages = [answers.questions(place) for place in range(answers.num_passages)]
    if not any(passages[place] for place in gone if place < len(passages)):
        return part
    left = [[] if place in gone else questions for place, questions in enumerate(passages)]
    name, sha256, num_bytes = save_answers(
        teacher_dir(run_dir), part_stem(part.index), left, top_k=1
    )
    flat = [question for questions in left for question in questions]
    # Its shard is the one before: the partition is looked at again, and nothing asked again.
    return replace(
        part,
        file=name,
        sha256=sha256,
        num_bytes=num_bytes,
        num_questions=len(flat),
        num_tokens=sum(len(question.answer.ids) for question in flat),
    )


def _num_empty(answers: Sequence[TaughtAnswer], config: Config) -> int:
    """Counts the answers that the teacher wrote nothing in."""
    if not answers:
        return 0
    tokenizer = load_tokenizer(config.model)
    said = [
        str(tokenizer.decode(answer.ids.tolist(), skip_special_tokens=True)) for answer in answers
    ]
    return sum(not text.strip() for text in said)


def _num_cut(answers: Sequence[TaughtAnswer], config: Config) -> int:
    """Counts the answers that the teacher wasn't let finish; see `Teacher.answer`."""
    if not answers:
        return 0
    end = load_tokenizer(config.model).eos_token_id
    return sum(int(answer.ids[-1]) != end for answer in answers)


@lru_cache(maxsize=1)
def _teacher(settings: bytes) -> Teacher:
    config = msgspec.json.decode(settings, type=Config)
    return Teacher(*load_base(config.model), config)

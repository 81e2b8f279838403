"""What a teacher has said, for those who make training examples of it."""

from bisect import bisect_right
from functools import lru_cache

from polyprag.config import Config
from polyprag.encoding.base import BaseModel
from polyprag.errors import RunError
from polyprag.method.teacher.targets import TaughtAnswer
from polyprag.teaching.manifest import (
    TaughtPart,
    load_teaching,
    needs_teacher,
    teacher_dir,
    teaching_settings,
)
from polyprag.teaching.part_file import PartAnswers, parse_answers
from sharding.corpus.manifest import CorpusManifest
from sharding.storage.cache import LocalCache
from sharding.storage.files import join
from sharding.storage.urls import is_local
from sharding.storage.verified import read_verified

_TEACH = "run `polyprag teach RUN`"


class TaughtAnswers:
    """The answers of a run's corpus; several threads may use it at once.

    A partition's file is read when one of its questions comes up, and kept for a while.
    """

    def __init__(
        self,
        run_dir: str,
        corpus: CorpusManifest,
        parts: dict[int, TaughtPart],
        *,
        vocab_size: int,
        cache: LocalCache | None,
        num_kept: int,
    ) -> None:
        """Reads nothing yet; use `open_taught`."""
        self._run_dir, self._directory = run_dir, teacher_dir(run_dir)
        self._corpus, self._parts = corpus, parts
        self._vocab_size, self._cache = vocab_size, cache
        self._first_ids = [partition.first_id for partition in corpus.partitions]
        self._read = lru_cache(num_kept)(self._load)

    def of(self, passage_id: int, question: int) -> TaughtAnswer:
        """Returns what the teacher says to a passage's question, by its number among them.

        Raises:
            RunError: the partition's file is damaged, or has other questions.
            FileError: it is missing, or not the one that the manifest means.
        """
        index = bisect_right(self._first_ids, passage_id) - 1
        try:
            return self._read(index).of(passage_id - self._first_ids[index], question)
        except IndexError:
            raise RunError(
                f"{self._directory}: has no answer to question {question} on passage {passage_id}; "
                f"{_TEACH}"
            ) from None

    def _load(self, index: int) -> PartAnswers:
        part = self._parts.get(index)
        if part is None:
            raise RunError(f"{self._directory}: has nothing on partition {index}; {_TEACH}")
        answers = read_part(self._run_dir, part, vocab_size=self._vocab_size, cache=self._cache)
        if answers.num_passages != self._corpus.partitions[index].num_passages:
            raise RunError(
                f"{join(self._directory, part.file)}: is of another number of passages; delete "
                f"{self._directory}, and {_TEACH}"
            )
        return answers


def read_part(
    run_dir: str, part: TaughtPart, *, vocab_size: int, cache: LocalCache | None = None
) -> PartAnswers:
    """Reads and checks a partition's file.

    Args:
        run_dir: RUN.
        part: of the manifest.
        vocab_size: tokens that the model knows.
        cache: for a remote run.

    Raises:
        FileError: it is missing, or not the one that the manifest means.
        RunError: it isn't what a teacher says.
    """
    directory = teacher_dir(run_dir)
    url = join(directory, part.file)
    read = read_verified if cache is None or is_local(url) else cache.get
    data = read(
        url,
        sha256=part.sha256,
        num_bytes=part.num_bytes,
        remedy=f"delete {directory}, and {_TEACH}",
    )
    return parse_answers(data, vocab_size=vocab_size, where=url)


def open_taught(
    run_dir: str,
    config: Config,
    corpus: CorpusManifest,
    *,
    base: BaseModel,
    vocab_size: int,
    cache: LocalCache | None = None,
    first: int = 0,
    num_lanes: int = 1,
) -> TaughtAnswers | None:
    """Opens what the teacher of a run says; None where the run has none.

    Args:
        run_dir: RUN.
        config: of the run.
        corpus: of the run.
        base: its base model.
        vocab_size: tokens that the base model knows.
        cache: for a remote run.
        first: the first passage of those that are needed.
        num_lanes: that read at the same time, each a partition and ahead of it the next; what is
            kept in memory grows with them.

    Raises:
        RunError: a partition's questions haven't been asked as they are now.
    """
    if not needs_teacher(config, corpus):
        return None
    directory, manifest = teacher_dir(run_dir), load_teaching(run_dir)
    if manifest is None:
        raise RunError(f"{directory}: there is nothing of a teacher yet; {_TEACH}")
    if not manifest.is_of(base, teaching_settings(config, base)):
        raise RunError(
            f"{directory}: is of another base model, or of other generation.* or train.teacher_* "
            f"settings; {_TEACH}, which makes it anew"
        )
    parts = manifest.current(corpus.partitions, config)
    for partition in corpus.partitions:
        if partition.first_id >= first and partition.index not in parts:
            raise RunError(
                f"{directory}: has nothing on the questions of partition {partition.index} as they "
                f"are now, or has other answers than train.teacher_answers and "
                f"generation.max_new_tokens ask for; {_TEACH}"
            )
    return TaughtAnswers(
        run_dir,
        corpus,
        parts,
        vocab_size=vocab_size,
        cache=cache,
        num_kept=2 * num_lanes + 2,
    )

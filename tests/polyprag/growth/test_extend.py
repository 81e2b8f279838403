"""`polyprag add`: new passages get all that the others have, and a stop costs nothing."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count as counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cluster.checkpoints.edit import forget_checkpoint_rows
from cluster.checkpoints.manifest import CheckpointManifest
from polyprag.augment.corpus import counts_of
from polyprag.augment.prompt import EMPTY
from polyprag.augment.settings import describe
from polyprag.augment.work import partition as at_work
from polyprag.augment.written import Written
from polyprag.cli import main
from polyprag.config import AugmentConfig, Config, trust
from polyprag.config.files import load_config, save_config
from polyprag.encoding.reader import Encoding
from polyprag.errors import RunError
from polyprag.growth import rows_task
from polyprag.growth.extend import augment_settings, row_tasks, train_new_rows, what_is_lacking
from polyprag.growth.remove import remove_from_run
from polyprag.growth.rows_task import train_partition
from polyprag.retrieval.search import Index
from polyprag.teaching.manifest import TeachingManifest
from polyprag.verify.findings import RunFindings
from polyprag.verify.run import verify_run
from sharding.change.growth import append_passages
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import QA, Augmentation, Passage, Record
from sharding.corpus.reader import Corpus
from sharding.corpus.rewrite import Rewritten, rewrite_partitions
from sharding.rows.file import save_rows
from sharding.rows.part import without_moments
from sharding.shown_progress import Advance
from sharding.task_pool import ProcessPool

KilledAfter = Callable[[int, Callable[[], object]], bool]
NEW = [("Klara", "Bern"), ("Lars", "Turku"), ("Mona", "Sofia"), ("Nils", "Riga"), ("Olga", "Bonn")]


def source(path: Path, people: list[tuple[str, str]]) -> str:
    lines = [
        {"id": name, "title": name, "text": f"{name} Smith was born in {city} in 1891."}
        for name, city in people
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def run(trained_run: tuple[Path, Config]) -> Path:
    """Ten encoded passages in partitions of four, with an index, a checkpoint and few steps."""
    run, config = trained_run
    save_config(replace(config, add=replace(config.add, steps=3)), run)
    return run


@pytest.fixture
def grown(run: Path, tmp_path: Path) -> Path:
    """The same with five new passages in its corpus, augmented and no more."""
    append_passages(run / "corpus", [source(tmp_path / "new.jsonl", NEW)])
    assert polyprag("augment", run).exit_code == 0
    return run


def polyprag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def add(run: Path, *arguments: object) -> Result:
    # The rules find nothing in these passages.
    result = polyprag("add", run, *arguments, "--workers", 1, "--allow-bare")
    assert result.exit_code == 0, result.output
    return result


def verify(run: Path) -> RunFindings:
    return verify_run(str(run), load_checkpoint=CheckpointManifest.load)


def rows_of(run: Path) -> np.ndarray:
    encoding = Encoding.load(run)
    return encoding.rows(np.arange(encoding.manifest.num_passages))


def files(run: Path) -> dict[str, int]:
    return {
        str(path.relative_to(run)): path.stat().st_mtime_ns
        for path in run.rglob("*")
        if path.is_file() and path.suffix in (".tar", ".safetensors", ".bin", ".npy")
    }


def test_new_passages_join_corpus_encoding_and_index(run: Path, tmp_path: Path) -> None:
    before, rows = files(run), rows_of(run)
    result = add(run, source(tmp_path / "new.jsonl", NEW))
    for line in (
        f"{run}/corpus: 5 passages added (ids from 10 on); 15 in all",
        f"{run}/encoding: 5 new rows; the experts are as they were",
        f"{run}/index: 15 passages",
        f'next: polyprag ask {run} "a question"',
    ):
        assert line in result.stdout
    for stage in ("reading", "comparing with", "writing", "augmenting", "training rows", "index"):
        assert stage in result.stderr
    records = list(Corpus.open(run / "corpus").iterate())
    assert all(record.augmentation is not None for record in records)
    encoding = Encoding.load(run).manifest
    assert [part.joint for part in encoding.parts] == [True, True, True, False, False]
    np.testing.assert_array_equal(rows_of(run)[:10], rows)
    assert all(row.any() for row in rows_of(run)[10:])
    (hits,) = Index.open(run).search(["Where was Klara born?"], k=1)
    assert hits.ids.tolist() == [10] and hits.rows is not None
    np.testing.assert_allclose(hits.rows, rows_of(run)[[10]], rtol=1e-3)
    assert before.items() <= files(run).items()
    found = verify(run)
    assert [problem.message for problem in found.problems] == []
    (note,) = found.notes
    assert "first 3 of the corpus's 5 partitions" in note and "train-more" in note


def test_the_same_command_again_changes_nothing(run: Path, tmp_path: Path) -> None:
    new = source(tmp_path / "new.jsonl", NEW)
    add(run, new)
    before = files(run)
    result = add(run, new)
    assert "0 passages added, 5 were there already; 15 in all" in result.stdout
    assert "training rows" not in result.stderr
    assert files(run) == before
    add(run, source(tmp_path / "more.jsonl", [("Pia", "Gent")]))
    assert len(Encoding.load(run).manifest.parts) == 6
    assert [problem.message for problem in verify(run).problems] == []


def test_what_is_lacking_is_seen_from_the_files(run: Path, tmp_path: Path) -> None:
    assert what_is_lacking(str(run)).num_rows == 0
    append_passages(run / "corpus", [source(tmp_path / "new.jsonl", NEW)])
    lacking = what_is_lacking(str(run))
    assert (lacking.augmentation, lacking.num_rows, len(lacking.rows)) == (5, 5, 2)
    with pytest.raises(RunError, match=r"partition 3 isn't augmented.*polyprag augment"):
        row_tasks(str(run), load_config(run_dir=run))
    (note, _) = sorted(verify(run).notes, key=len, reverse=True)
    assert "no rows of the corpus's last 5 passages, from 10 on; `polyprag add RUN`" in note
    assert "10 of 15 rows" in str(verify(run).checked["encoding"])
    add(run)
    assert what_is_lacking(str(run)).num_rows == 0


def asked_about(records: list[Record]) -> list[Record]:
    return [
        Record(
            record.passage,
            Augmentation((), (QA(f"Where is {record.passage.title} from?", "a town", ""),)),
        )
        for record in records
    ]


def test_added_passages_learn_of_a_teacher_where_the_others_did(
    grown: Path, tmp_path: Path
) -> None:
    rewrite_partitions(
        grown / "corpus",
        lambda partition: lambda records: Rewritten(asked_about(records)),
        needs=lambda partition: partition.index > 2,
        describe=lambda: {"backend": "rules", "num_rewrites": 1, "num_qas": 3},
        count=counts_of,
    )
    other = tmp_path / "other"
    shutil.copytree(grown, other)
    config = load_config(run_dir=grown)
    assert train_new_rows(str(other), config) == 5
    trained_with = Encoding.load(grown).config
    train = replace(trained_with.train, objective="distill")
    save_config(replace(trained_with, train=train), grown / "encoding")
    assert train_new_rows(str(grown), config) == 5
    # The teacher was asked of what has joined, and of nothing else.
    assert [part.index for part in TeachingManifest.load(grown / "teacher").parts] == [3, 4]
    np.testing.assert_array_equal(rows_of(grown)[:10], rows_of(other)[:10])
    assert np.abs(rows_of(grown)[10:] - rows_of(other)[10:]).max(axis=(1, 2)).min() > 0.01
    assert [problem.message for problem in verify(grown).problems] == []
    remove_from_run(str(grown), [11], config=config, forget_in_checkpoint=forget_checkpoint_rows)
    assert [part.num_questions for part in TeachingManifest.load(grown / "teacher").parts] == [3, 1]
    assert [problem.message for problem in verify(grown).problems] == []


@pytest.mark.parametrize(
    "init", ["zeros", pytest.param("random", marks=pytest.mark.slow), "neighbours"]
)
def test_rows_do_not_depend_on_who_trains_them(grown: Path, tmp_path: Path, init: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(grown, other)
    config = load_config(overrides=[f"add.init={init}"], run_dir=grown)
    assert train_new_rows(str(other), config) == 5
    if init == "random":  # processes cost seconds
        with ProcessPool(2) as pool:
            train_new_rows(str(grown), config, pool=pool)
    else:
        train_new_rows(str(grown), config)
    np.testing.assert_array_equal(rows_of(grown), rows_of(other))
    assert Encoding.load(grown).manifest == Encoding.load(other).manifest


def test_a_task_that_ends_late_leaves_the_rows_that_are_there(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of another node, which differ by rounding."""
    task, _ = row_tasks(str(grown), load_config(run_dir=grown))
    path = grown / "encoding" / task.file
    real = rows_task.start_rows

    def meanwhile(*args: Any, **options: Any) -> Any:
        part, rows = task.partition, real(*args, **options)
        others = without_moments(part.index, part.first_id, rows + np.float32(1e-6), "row")
        save_rows(path, others, moments=False)
        return rows

    monkeypatch.setattr(rows_task, "start_rows", meanwhile)
    done = train_partition(task)
    assert done.loss is not None  # it did train
    before = path.read_bytes()
    assert done.part.sha256 == hashlib.sha256(before).hexdigest()
    assert train_partition(task).part == done.part and path.read_bytes() == before
    monkeypatch.undo()
    path.unlink()
    assert train_partition(task).part.sha256 != done.part.sha256


def test_rows_that_a_stopped_command_trained_are_kept_if_they_are_of_the_same(
    grown: Path,
) -> None:
    config = load_config(run_dir=grown)
    first, second = row_tasks(str(grown), config)
    done = train_partition(first)
    assert done.loss is not None and not done.part.joint
    again = train_partition(first)
    assert (again.part, again.loss) == (done.part, None)
    path = grown / "encoding" / done.part.file
    path.write_bytes(path.read_bytes()[:-1])
    assert train_partition(first).part == done.part
    longer = load_config(overrides=["add.steps=4"], run_dir=grown)
    assert row_tasks(str(grown), longer)[0].file != first.file
    remove_from_run(str(grown), [10], config=config, forget_in_checkpoint=forget_checkpoint_rows)
    assert row_tasks(str(grown), config)[0].file != first.file
    assert row_tasks(str(grown), config)[1] == second


def test_removed_passages_of_new_partitions_have_no_row(grown: Path) -> None:
    config = load_config(overrides=["add.init=random"], run_dir=grown)
    ids = [11, 14]  # of the last partition all
    remove_from_run(str(grown), ids, config=config, forget_in_checkpoint=forget_checkpoint_rows)
    train_new_rows(str(grown), config)
    assert [bool(row.any()) for row in rows_of(grown)[10:]] == [True, False, True, True, False]
    remove_from_run(str(grown), [10], config=config, forget_in_checkpoint=forget_checkpoint_rows)
    assert not rows_of(grown)[10].any()
    assert polyprag("index", grown).exit_code == 0
    assert [problem.message for problem in verify(grown).problems] == []


def test_stages_that_are_not_made_yet_are_named_and_passed_over(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "encoding")
    shutil.rmtree(run / "index")
    result = add(run, source(tmp_path / "new.jsonl", NEW))
    assert f"next: polyprag encode {run}" in result.stdout
    assert all(part.augmented for part in CorpusManifest.load(run / "corpus").partitions)
    other = polyprag("add", tmp_path / "nothing", tmp_path / "new.jsonl")
    assert other.exit_code == 2 and "run `polyprag prepare` first" in other.stderr


@pytest.mark.parametrize(
    "augment",
    [
        AugmentConfig(num_qas=2),
        AugmentConfig(backend="hf", model="m", temperature=0.1),
        AugmentConfig(backend="openai", model="m", base_url="http://host:1/v1", max_new_tokens=9),
    ],
)
def test_new_passages_are_augmented_as_the_others_were(augment: AugmentConfig) -> None:
    recorded = describe(Config(augment=augment))
    asked = trust.endpoint_of(Config(augment=augment), trust.AUGMENT_ENDPOINT)
    trust.remember([] if asked is None else [asked])
    assert describe(augment_settings(Config(), recorded)) == recorded
    mine = Config(augment=replace(augment, batch_size=3))
    assert augment_settings(mine, recorded) == mine


def test_new_passages_that_nothing_came_for_are_not_trained_unless_the_user_says_so(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    fails = {name for name, _ in NEW}

    def write(passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        for position, passage in enumerate(passages):
            asked.append(passage.key)
            augmentation = Augmentation((f"{passage.title} again.",), ())
            failed = Written(EMPTY, failure="503 busy")
            yield position, failed if passage.key in fails else Written(augmentation)

    monkeypatch.setattr(at_work, "writer_of", lambda config: write)
    new = source(tmp_path / "new.jsonl", NEW)
    for fails_now in (fails.copy(), {"Mona"}):
        fails = fails_now
        asked.clear()
        result = polyprag("add", run, new, "--workers", 1)
        assert result.exit_code == 75
        assert f"{len(fails)} x 503 busy" in result.stderr
        assert asked == [name for name, _ in NEW]
        assert Encoding.load(run).manifest.num_passages == 10
    allowed = add(run, new)
    assert asked[5:] == ["Mona"]
    assert "note: 1 of 5 passages has no rewrite and no question" in allowed.stderr
    assert Encoding.load(run).manifest.num_passages == 15
    add(run)  # she is trained, and was let go
    assert asked[6:] == []
    assert verify(run).problems == []


def test_new_passages_that_are_mostly_bare_are_refused(run: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.jsonl"
    new.write_text('{"id": "x", "title": "", "text": "Lorem ipsum."}\n')
    refused = polyprag("add", run, new, "--workers", 1)
    assert refused.exit_code == 2
    assert "1 of 1 passages has no rewrite and no question" in refused.stderr
    assert f"`polyprag add {run} --allow-bare` goes on" in refused.stderr
    add(run)
    assert Encoding.load(run).manifest.num_passages == 11


@pytest.mark.slow
def test_an_add_killed_at_any_step_is_finished_by_the_same_command(
    run: Path, tmp_path: Path, killed_after: KilledAfter
) -> None:
    new = source(tmp_path / "new.jsonl", NEW)
    done = tmp_path / "done"
    shutil.copytree(run, done)
    add(done, new)
    expected = (CorpusManifest.load(done / "corpus"), Encoding.load(done).manifest)

    def arguments(run: Path) -> list[str]:
        return ["add", str(run), new, "--workers", "1", "--allow-bare"]

    for survives in counter(0, 3):
        copy = tmp_path / str(survives)
        shutil.copytree(run, copy)
        killed = killed_after(survives, partial(main, arguments(copy), standalone_mode=False))
        if Encoding.load(copy).manifest.num_passages == 10:
            np.testing.assert_array_equal(rows_of(copy), rows_of(run))
        Index.open(copy).search(["Where was Klara born?"], k=1)
        add(copy, new)
        assert (CorpusManifest.load(copy / "corpus"), Encoding.load(copy).manifest) == expected
        assert [p.message for p in verify(copy).problems if "left by" not in p.message] == []
        shutil.rmtree(copy)
        if not killed:
            break
    assert survives > 15


def test_training_of_rows_is_shown_as_it_goes_within_a_partition(grown: Path) -> None:
    config = load_config(run_dir=grown)
    told: list[tuple[int, str]] = []

    @contextmanager
    def show(total: int | None, description: str, *, unit: str) -> Iterator[Advance]:
        assert (total, unit) == (5, "passages")
        yield lambda done, note="", /: told.append((done, note))

    assert train_new_rows(str(grown), config, show=show) == 5
    # Three steps on four passages, and on one: 4/3, 8/3, 4 and 1/3, 2/3, 1 of them, in whole ones.
    assert [done for done, note in told if not note] == [1, 1, 2, 1]
    losses = [(done, note) for done, note in told if note]
    assert [done for done, _ in losses] == [0, 0]
    assert all(note.startswith("loss ") for _, note in losses)

"""`polyprag remove`: what goes, from which files, and what a kill on the way leaves."""

import json
import shutil
from collections.abc import Callable, Iterable
from itertools import count as counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cluster.checkpoints.edit import forget_checkpoint_rows
from cluster.checkpoints.files import load_row_partition
from cluster.checkpoints.manifest import CheckpointManifest
from polyprag.augment.work.replies import (
    ReplyWriter,
    passage_digest,
    read_replies,
    replies_dir,
    settings_digest,
)
from polyprag.augment.written import Written
from polyprag.cli import main
from polyprag.config import Config
from polyprag.config.files import load_config, save_config
from polyprag.encoding.reader import Encoding
from polyprag.growth.remove import remove_from_run
from polyprag.retrieval.search import Index
from polyprag.verify.run import verify_run
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import Augmentation
from sharding.corpus.reader import Corpus
from sharding.storage.cache import cache_for

KilledAfter = Callable[[int, Callable[[], object]], bool]
GONE = 4  # Edith Smith, born in Quito in 1940: words that no other passage has


@pytest.fixture
def run(trained_run: tuple[Path, Config]) -> Path:
    run, config = trained_run
    save_config(config, run)
    return run


def words_of(run: Path, passage_id: int) -> set[bytes]:
    """The distinctive words of a passage and of all that was written about it."""
    records = list(Corpus.open(run / "corpus").iterate())
    words = []
    for record in records:
        texts = [record.passage.key, record.passage.title, record.passage.text]
        if record.augmentation:
            texts += record.augmentation.rewrites
            for qa in record.augmentation.qas:
                texts += [qa.question, qa.answer, qa.full_answer]
        words.append({word.strip(".,?").lower() for text in texts for word in text.split()})
    others = set().union(*(each for at, each in enumerate(words) if at != passage_id))
    key, title = records[passage_id].passage.key, records[passage_id].passage.title
    distinctive = {
        word.encode() for word in words[passage_id] - others if len(word) > 3 and word.isalpha()
    }
    # A year or a short key may stand in a checksum by chance; the key as it is written does not.
    return distinctive | {f'"key":"{key}"'.encode(), f"{key}{title}".lower().encode()}


def holding(run: Path, words: Iterable[bytes]) -> dict[str, set[str]]:
    """The stages' files that hold a word, in upper or lower case, in UTF-8 or UTF-16 or -32."""
    found: dict[str, set[str]] = {}
    spelled = [
        spelling
        for word in words
        for spelling in (word, *(word.decode().encode(code) for code in ("utf-16-le", "utf-32-le")))
    ]
    for path in run.rglob("*"):
        if path.is_file():
            data = path.read_bytes().lower()
            if any(spelling in data for spelling in spelled):
                stage, name = path.relative_to(run).parts[0], path.name
                found.setdefault(stage, set()).add(name)
    return found


def problems(run: Path) -> list[str]:
    found = verify_run(str(run), load_checkpoint=CheckpointManifest.load)
    return [problem.message for problem in found.problems]


def polyprag(*arguments: object, **options: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)  # type: ignore[arg-type]


def rows_in_checkpoint(run: Path, passage_id: int) -> bool:
    """Whether the checkpoint has anything of a passage's row."""
    checkpoint = CheckpointManifest.load(str(run / "checkpoints"))
    assert checkpoint is not None
    part = load_row_partition(str(run / "checkpoints"), checkpoint.rows[passage_id // 4])
    at = passage_id - part.first_id
    return any(array[at].any() for array in (part.rows, part.exp_avg, part.exp_avg_sq, part.steps))


def test_no_file_of_the_run_has_a_word_of_a_removed_passage(run: Path) -> None:
    words = words_of(run, GONE)
    assert {b"edith", b"quito"} <= words
    before = holding(run, words)
    assert before.keys() == {"corpus", "index"}
    assert rows_in_checkpoint(run, GONE) and Encoding.load(run).rows([GONE]).any()
    kept = Encoding.load(run).rows([3, 5, 9])
    result = polyprag("remove", run, "--ids", GONE, "--yes", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert f"  {GONE}  p4  Edith" in result.stderr
    assert f"{run}: 1 passage removed; 9 of 10 are left" in result.stdout
    assert holding(run, words) == {}
    assert not rows_in_checkpoint(run, GONE) and not Encoding.load(run).rows([GONE]).any()
    np.testing.assert_array_equal(Encoding.load(run).rows([3, 5, 9]), kept)
    index = Index.open(run)
    for method in ("bm25", "dense", "hybrid"):
        (hits,) = index.search(["Edith Smith was born in Quito in 1940."], k=10, method=method)
        assert GONE not in hits.ids.tolist() and len(hits.ids) == 9
    assert problems(run) == []


def test_what_came_for_a_removed_passage_and_waits_goes_too(run: Path) -> None:
    words = words_of(run, GONE)
    records = list(Corpus.open(run / "corpus").iterate())
    directory, settings = replies_dir(str(run), 1), settings_digest({})
    with ReplyWriter(directory, settings) as kept:
        for record in (records[GONE], records[GONE + 1]):
            augmentation = Augmentation((record.passage.text,), ())
            kept.add(record.passage, Written(augmentation))
    assert "augment" in holding(run, words)
    assert polyprag("remove", run, "--ids", GONE, "--yes", "--workers", 1).exit_code == 0
    assert holding(run, words) == {}
    assert [*read_replies(directory, settings)] == [passage_digest(records[GONE + 1].passage)]


def test_keys_and_a_file_of_keys_name_passages_too(run: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("p7\np2\n")
    result = polyprag(
        "remove", run, "--ids", "0,2", "--keys", "p3,p0", "--keys-file", tmp_path / "keys.txt"
    )
    assert result.exit_code == 0, result.output
    assert CorpusManifest.load(run / "corpus").removed == [0, 2, 3, 7]
    again = polyprag("remove", run, "--keys", "p7", "--keys", "p8", "--workers", 1)
    assert "1 passage removed, 1 had been before; 5 of 10 are left" in again.stdout
    assert problems(run) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name passages with --ids, --keys, --keys-file or --documents"),
        (["--ids", "3,x"], "'x' is no id"),
        (["--ids", "3,10"], "no passage 10; ids go from 0 to 9"),
        (["--keys", "p3,p33"], "no passage with the key 'p33'"),
        (["--ids", "3", "--keys-file", "nowhere.txt"], "nowhere.txt: no such file"),
    ],
)
def test_mistakes_are_one_line_and_nothing_goes(
    run: Path, arguments: list[str], message: str
) -> None:
    before = (run / "corpus" / "manifest.json").read_bytes()
    result = polyprag("remove", run, *arguments, "--workers", 1)
    assert result.exit_code == 2
    assert message in result.stderr and "Traceback" not in result.output
    assert (run / "corpus" / "manifest.json").read_bytes() == before


def test_on_a_terminal_it_asks_first(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "corpus" / "manifest.json").read_bytes()
    monkeypatch.setattr("polyprag.cli.remove._is_terminal", lambda: True)
    refused = polyprag("remove", run, "--ids", 1, "--workers", 1, input="n\n")
    assert refused.exit_code == 1
    assert f"Remove 1 passage from {run} for good?" in refused.output
    assert (run / "corpus" / "manifest.json").read_bytes() == before
    assert polyprag("remove", run, "--ids", 1, "--workers", 1, input="y\n").exit_code == 0
    assert CorpusManifest.load(run / "corpus").removed == [1]


def test_stages_that_are_not_made_yet_are_passed_over(run: Path) -> None:
    for stage in ("checkpoints", "encoding", "index"):
        shutil.rmtree(run / stage)
    words = words_of(run, GONE)
    assert polyprag("remove", run, "--ids", GONE, "--workers", 1).exit_code == 0
    assert holding(run, words) == {}
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "corpus", "lease"]


def test_a_run_in_object_storage_and_this_machine_s_copies_of_it_forget_too(
    run: Path, tmp_path: Path, s3: str
) -> None:
    import fsspec

    words = words_of(run, GONE)
    fs, root = fsspec.core.url_to_fs(f"{s3}/run")
    fs.put(str(run), root, recursive=True)
    url, cache = f"{s3}/run", tmp_path / "cache"
    config = load_config(overrides=[f"data.cache_dir={cache}"], run_dir=url)
    save_config(config, url)
    shards = cache_for(f"{url}/corpus", directory=str(cache), max_gb=1)
    assert list(Corpus.open(f"{url}/corpus", cache=shards).iterate())
    Index.open(url, cache_dir=str(cache), cache_gb=1).search(["Edith"], k=1)
    assert holding(cache, words).keys() == {"shards", "index"}
    result = polyprag("remove", url, "--keys", "p4", "--workers", 1)
    assert result.exit_code == 0, result.output
    fs.invalidate_cache()
    fs.get(root, str(tmp_path / "copy"), recursive=True)
    assert holding(tmp_path / "copy", words) == {}
    assert holding(cache, words) == {}
    assert problems(tmp_path / "copy") == []


@pytest.mark.slow
def test_killed_at_any_step_the_same_command_finishes_it(
    run: Path, trained_run: tuple[Path, Config], tmp_path: Path, killed_after: KilledAfter
) -> None:
    words = words_of(run, GONE)
    _, config = trained_run
    ids = [1, GONE]
    states = []
    for survives in counter():
        copy = tmp_path / str(survives)
        shutil.copytree(run, copy)

        def command(copy: Path = copy) -> object:
            return remove_from_run(
                str(copy), ids, config=config, forget_in_checkpoint=forget_checkpoint_rows
            )

        killed = killed_after(survives, command)
        if set(CorpusManifest.load(copy / "corpus").removed) == set(ids):
            # What a reader gets meanwhile: nothing of the removed, whatever is left of them.
            (hits,) = Index.open(copy).search(["Edith Smith of Quito"], k=10)
            assert not set(hits.ids.tolist()) & set(ids)
        command()
        assert holding(copy, words) == {}
        assert [each for each in problems(copy) if "left by" not in each] == []
        assert not Encoding.load(copy).rows(ids).any()
        assert not any(rows_in_checkpoint(copy, each) for each in ids)
        corpus = json.loads((copy / "corpus" / "manifest.json").read_text())
        index = {path.name for path in (copy / "index").iterdir() if path.is_dir()}
        states.append((corpus, index, Encoding.load(copy).manifest))
        shutil.rmtree(copy)
        if not killed:
            break
    assert survives > 20
    assert all(state == states[-1] for state in states)

"""`polyprag augment` as its users meet it, and what `encode` says about what it left out."""

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from polyprag.augment.bare import refuse_bare
from polyprag.augment.pairs.pair import Pair
from polyprag.augment.pairs.read import read_pairs
from polyprag.augment.prompt import EMPTY
from polyprag.augment.work import partition as at_work
from polyprag.augment.written import Written
from polyprag.cli import main
from polyprag.config.files import load_config
from polyprag.errors import RunError
from sharding.corpus.manifest import CorpusManifest
from sharding.corpus.passages import QA, Augmentation, Passage
from sharding.corpus.reader import Corpus

PROSE = [
    ("battery", "The battery of the lamp lasts nine hours. It is charged by a cable."),
    ("warranty", "We repair it free of charge for two years. Keep the receipt for that."),
    ("lamp", "The lamp weighs 300 grams and hangs on a hook."),
    ("shipping", "Parcels leave on Mondays. They arrive within the week."),
]
MODEL = ("augment.backend=openai", "augment.model=m", "augment.base_url=http://127.0.0.1:9/v1")


def polyprag(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    source = tmp_path / "prose.jsonl"
    lines = [json.dumps({"id": key, "title": "", "text": text}) for key, text in PROSE]
    source.write_text("\n".join(lines))
    made = polyprag("prepare", tmp_path / "run", source, "data.partition_size=3")
    assert made.exit_code == 0, made.output
    return tmp_path / "run"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Keys of passages that a writer has no words about; of the others it writes a question."""
    keys: set[str] = set()

    def write(passages: Sequence[Passage]) -> Iterator[tuple[int, Written]]:
        for position, passage in enumerate(passages):
            qa = QA(f"What about the {passage.key}?", passage.text[:12], passage.text)
            if passage.key in keys:
                yield position, Written(EMPTY, failure="<html> 502 Bad Gateway")
            else:
                yield position, Written(Augmentation((), (qa,)))

    monkeypatch.setattr(at_work, "writer_of", lambda config: write)
    return keys


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def qas_of(run: Path) -> list[tuple[str, ...]]:
    found = []
    for record in Corpus.open(run / "corpus").iterate():
        qas = record.augmentation.qas if record.augmentation else ()
        found.append(tuple(qa.question for qa in qas))
    return found


OWN = [
    {"passage": "battery", "question": "How long does it last?", "answer": "nine hours"},
    {"passage": "Keep the receipt", "question": "What must I keep?", "answer": "the receipt"},
    {"passage": "no such text", "question": "Who?", "answer": "nobody"},
]


def test_own_pairs_alone_are_added_once_and_told(run: Path, tmp_path: Path) -> None:
    pairs = table(tmp_path / "own.csv", OWN)
    result = polyprag("augment", run, "--qa", pairs, "augment.backend=none")
    assert result.exit_code == 0, result.output
    expected = [("How long does it last?",), ("What must I keep?",), (), ()]
    assert qas_of(run) == expected
    assert f"{pairs}:4: not used: no passage has its text" in result.stderr
    assert "your own pairs: 2 of 3 have a passage" in result.stdout
    assert "2 of 4 passages (50%): no pair of your own is about them" in result.stdout
    again = polyprag("augment", run, "--qa", pairs, "--json")
    assert again.exit_code == 0, again.output
    told = json.loads(again.stdout)
    assert (told["own_pairs"], told["own_unmatched"], told["own_pairs_added"]) == (2, 1, 0)
    assert (told["num_without_augmentation"], told["asked_about"]) == (2, 2 / 7)
    assert qas_of(run) == expected


def test_own_pairs_stand_beside_what_is_written(
    run: Path, tmp_path: Path, failing: set[str]
) -> None:
    assert polyprag("augment", run, *MODEL).exit_code == 0
    more = [*OWN, {"passage": "lamp", "question": "what about the LAMP", "answer": "it hangs"}]
    result = polyprag("augment", run, "--qa", table(tmp_path / "own.csv", more))
    assert result.exit_code == 0, result.output
    assert qas_of(run) == [
        ("How long does it last?", "What about the battery?"),
        ("What must I keep?", "What about the warranty?"),
        ("What about the lamp?",),  # asked already
        ("What about the shipping?",),
    ]


def test_own_pairs_of_open_passages_come_with_what_is_written_later(
    run: Path, tmp_path: Path, failing: set[str]
) -> None:
    failing |= {"battery"}
    pairs = table(tmp_path / "own.csv", OWN)
    assert polyprag("augment", run, "--qa", pairs, *MODEL).exit_code == 75
    assert qas_of(run)[0] == ()
    failing.clear()
    assert polyprag("augment", run, *MODEL).exit_code == 0
    assert qas_of(run)[:2] == [
        ("How long does it last?", "What about the battery?"),
        ("What must I keep?", "What about the warranty?"),
    ]


def test_own_pairs_stay_where_all_is_written_again_and_go_with_their_passage(
    run: Path, tmp_path: Path, failing: set[str]
) -> None:
    pairs = table(tmp_path / "own.csv", OWN)
    assert polyprag("augment", run, "--qa", pairs, *MODEL).exit_code == 0
    before = qas_of(run)
    again = polyprag("augment", run, "--overwrite", *MODEL)
    assert again.exit_code == 0, again.output
    assert "note: 2 own pairs that RUN was given before join" in again.stderr
    assert qas_of(run) == before
    kept = run / "augment" / "own-pairs.json"
    assert "What must I keep?" in kept.read_text()
    assert polyprag("remove", run, "--ids", "1").exit_code == 0
    assert "What must I keep?" not in kept.read_text()
    assert "How long does it last?" in kept.read_text()


def test_pairs_that_are_all_of_other_passages_are_refused(run: Path, tmp_path: Path) -> None:
    pairs = table(tmp_path / "own.csv", OWN[2:])
    result = polyprag("augment", run, "--qa", pairs)
    assert result.exit_code == 2
    assert "none of 1 pairs has a passage" in result.stderr
    assert CorpusManifest.load(run / "corpus").augmentation is None


def test_an_outage_ends_with_75_and_is_gone_on_with(run: Path, failing: set[str]) -> None:
    failing |= {"warranty", "shipping"}
    result = polyprag("augment", run, *MODEL)
    assert result.exit_code == 75
    assert "open, nothing has come yet: 2 of 4 passages" in result.stdout
    assert "2 x <html> 502 Bad Gateway" in result.stdout
    error = result.stderr.splitlines()[-1]
    assert "2 of 4 passages are open" in error and "run the same command again" in error
    refused = polyprag("encode", run)
    assert refused.exit_code == 2
    assert "2 of 4 passages are open" in refused.stderr and "--allow-bare" in refused.stderr
    failing.clear()
    done = polyprag("augment", run, "--json")  # RUN keeps the settings
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["num_open"], told["asked"], told["num_without_augmentation"]) == (0, 2, 0)


def test_who_was_asked_in_vain_is_asked_again_unless_another_is_named(
    run: Path, failing: set[str]
) -> None:
    failing |= {key for key, _ in PROSE}
    assert polyprag("augment", run, *MODEL, "--json").exit_code == 75
    assert load_config(run_dir=run).augment.backend == "openai"  # not the rules, unasked
    failing.clear()
    assert polyprag("augment", run, "augment.backend=rules").exit_code == 0
    assert load_config(run_dir=run).augment.backend == "rules"


def test_what_is_mostly_bare_is_not_encoded_unless_it_is_wanted(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = []

    def encode(*arguments: Any, **options: Any) -> None:
        reached.append(arguments[0])
        raise RunError("as far as this")

    monkeypatch.setattr("cluster.ray.driver.encode", encode)
    assert polyprag("augment", run, "augment.backend=none").exit_code == 0
    for command in ("encode", "train-more"):
        refused = polyprag(command, run)
        assert refused.exit_code == 2 and not reached
        assert "4 of 4 passages have no rewrite and no question" in refused.stderr
        assert f"polyprag {command} {run} --allow-bare" in refused.stderr
        allowed = polyprag(command, run, "--allow-bare")
        assert "as far as this" in allowed.stderr and reached.pop() == str(run)
        assert "note: 4 of 4 passages have no rewrite and no question" in allowed.stderr


@pytest.mark.parametrize(("bare", "is_refused"), [(0, False), (1, False), (2, True)])
def test_a_fifth_of_the_passages_may_be_bare(tmp_path: Path, bare: int, is_refused: bool) -> None:
    texts = [f"Person {i} (born 19{i:02}) is a singer." for i in range(5 - bare)]
    lines = [{"id": f"p{i}", "title": f"Person {i}", "text": t} for i, t in enumerate(texts)]
    lines += [{"id": f"q{i}", "title": "", "text": f"Lorem ipsum {i}."} for i in range(bare)]
    source = tmp_path / "p.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    run = tmp_path / "run"
    assert polyprag("prepare", run, source).exit_code == 0
    assert polyprag("augment", run).exit_code == 0
    manifest, said = CorpusManifest.load(run / "corpus"), list[str]()
    if is_refused:
        with pytest.raises(RunError, match="2 of 5 passages"):
            refuse_bare(str(run), manifest, allow=False, say=said.append, go_on="polyprag encode")
    else:
        refuse_bare(str(run), manifest, allow=False, say=said.append, go_on="polyprag encode")
    assert len(said) == (bare == 1)


def test_a_report_writes_nothing(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    result = polyprag("augment", run, "--report")
    assert result.exit_code == 0, result.output
    assert "0 of 4 passages augmented" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert polyprag("augment", run, "--report", "--overwrite").exit_code == 2


def test_every_question_is_listed_as_own_pairs_are_given(
    run: Path, failing: set[str], tmp_path: Path
) -> None:
    failing.add("warranty")
    assert polyprag("augment", run, *MODEL).exit_code == 75
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    result = polyprag("augment", run, "--list")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    keys = [key for key, _ in PROSE if key != "warranty"]
    assert rows == [
        {"key": key, "question": f"What about the {key}?", "answer": dict(PROSE)[key][:12]}
        for key in keys
    ]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(result.stdout)
    assert [type(pair) for pair in read_pairs(str(pairs))] == [Pair] * 3
    assert polyprag("augment", run, "--list", "--keep").exit_code == 2


def test_other_settings_are_told_with_what_they_would_redo(run: Path, failing: set[str]) -> None:
    assert polyprag("augment", run, *MODEL).exit_code == 0
    refused = polyprag("augment", run, "augment.num_qas=5")
    assert refused.exit_code == 2
    assert "4 of 4 passages were written about with other settings" in refused.stderr
    assert "--overwrite writes them again" in refused.stderr
    assert load_config(run_dir=run).augment.num_qas != 5
    assert polyprag("augment", run, "augment.num_qas=5", "--overwrite").exit_code == 0
    assert load_config(run_dir=run).augment.num_qas == 5
    assert polyprag("augment", run, "--overwrite", "--keep").exit_code == 2


def test_what_was_trained_with_is_not_changed(run: Path, failing: set[str], tmp_path: Path) -> None:
    assert polyprag("augment", run, *MODEL).exit_code == 0
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "manifest.json").write_text("{}")
    before = CorpusManifest.load(run / "corpus")
    pairs = tmp_path / "qa.jsonl"
    pairs.write_text(json.dumps({"key": "lamp", "question": "What hangs?", "answer": "The lamp"}))
    for more in (["--overwrite"], ["--qa", pairs]):
        refused = polyprag("augment", run, *more)
        assert refused.exit_code == 2 and "was trained with" in refused.stderr
    assert CorpusManifest.load(run / "corpus") == before
    assert polyprag("augment", run).exit_code == 0  # nothing is left to write
    shutil.rmtree(run / "checkpoints")
    assert polyprag("augment", run, "--qa", pairs).exit_code == 0


def test_a_job_takes_the_flag_and_the_file_along(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[str]] = []

    class Server:
        """Stands for a cluster's job server."""

        address = "http://127.0.0.1:1"

        def __init__(self, address: str | None) -> None:
            pass

        def submit(self, name: str, run: str, words: list[str], **_: Any) -> Any:
            sent.append([name, *words])
            return SimpleNamespace(id="job-1", status="PENDING"), True

    monkeypatch.setattr("cluster.jobs.client.Jobs", Server)
    monkeypatch.chdir(tmp_path)
    for words in (["encode", run, "--allow-bare"], ["augment", run, "--qa", "own", "--qa=b.csv"]):
        assert polyprag("submit", *words).exit_code == 0
    assert sent == [
        ["encode", "--allow-bare"],
        ["augment", "--qa", str(tmp_path / "own"), f"--qa={tmp_path / 'b.csv'}"],
    ]

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from cluster.checkpoints.manifest import CheckpointManifest
from polyprag.answering.trust.abstention import Abstention, CalibratedRule
from polyprag.augment.corpus import counts_of
from polyprag.cli import main
from polyprag.config import Config
from polyprag.encoding.manifest import EncodingManifest
from polyprag.verify.findings import RunFindings
from polyprag.verify.run import verify_run
from sharding.change.growth import append_passages
from sharding.change.removal import remove_passages
from sharding.checks.problem import mend
from sharding.corpus.manifest import CorpusManifest
from sharding.rows.file import load_rows, save_rows
from sharding.storage.files import sha256_of


@pytest.fixture
def run(trained_run: tuple[Path, Config]) -> Path:
    """An augmented, encoded and indexed run with a checkpoint."""
    return trained_run[0]


def verify(run: Path | str, *, quick: bool = False) -> RunFindings:
    return verify_run(str(run), load_checkpoint=CheckpointManifest.load, quick=quick)


def messages(run: Path | str, *, quick: bool = False) -> list[str]:
    return [problem.message for problem in verify(run, quick=quick).problems]


def flip(path: Path, at: int = -5) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def one(run: Path, pattern: str) -> Path:
    (found, *_) = sorted(run.glob(pattern))
    return found


@pytest.mark.parametrize("quick", [False, True])
def test_a_sound_run_has_no_problems(run: Path, quick: bool) -> None:
    found = verify(run, quick=quick)
    assert [problem.message for problem in found.problems] == []
    assert found.checked["corpus"] == "10 passages in 3 partitions"
    assert found.checked["checkpoints"] == "step 5"
    assert str(found.checked["encoding"]).startswith("10 rows in 3 parts")
    parts = "10 passages, bm25, dense, embeddings, encoder, passages, rows"
    looked_up = "" if quick else "; a sample of 10 looked up in all parts"
    assert found.checked["index"] == parts + looked_up


def test_stages_that_have_not_begun_are_no_problem(run: Path) -> None:
    for name in ("checkpoints", "encoding", "index"):
        shutil.rmtree(run / name)
    found = verify(run)
    assert found.problems == []
    assert (
        found.checked["index"] is found.checked["encoding"] is found.checked["checkpoints"] is None
    )


FILES = [
    "corpus/part-00001-*.tar",
    "encoding/experts.safetensors",
    "encoding/rows/part-00002*.safetensors",
    "checkpoints/experts-*.safetensors",
    "checkpoints/rows-00001-*.safetensors",
    "index/passages-*/text.bin",
    "index/rows-*/rows.npy",
    "index/bm25-*/*.npy",
]


@pytest.mark.parametrize("pattern", FILES)
def test_every_file_is_checked_to_its_last_byte(run: Path, pattern: str) -> None:
    path = one(run, pattern)
    flip(path)
    (message,) = messages(run)
    assert message.startswith(str(path))
    assert "SHA-256 differs" in message
    assert messages(run, quick=True) == []


@pytest.mark.parametrize("pattern", FILES)
def test_a_missing_or_cut_file_is_seen_at_once(run: Path, pattern: str) -> None:
    path = one(run, pattern)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    is_experts = pattern == "encoding/experts.safetensors"  # nothing says how long it was
    for quick in (False,) if is_experts else (False, True):
        assert [str(path) in message for message in messages(run, quick=quick)] == [True]
    path.unlink()
    for quick in (False, True):
        (message,) = messages(run, quick=quick)
        assert f"{path}: no such file; " in message


@pytest.mark.parametrize("stage", ["encoding", "checkpoints", "index"])
@pytest.mark.parametrize("damage", ["cut", "gone", "version"])
def test_a_damaged_manifest_is_one_problem_with_its_remedy(
    run: Path, stage: str, damage: str
) -> None:
    path = run / stage / "manifest.json"
    values = json.loads(path.read_text())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_text(path.read_text()[:-20])
    else:
        path.write_text(json.dumps(values | {"version": 99}))
    found = [message for message in messages(run) if message.startswith(str(path))]
    assert len(found) == 1
    assert "again" in found[0] or "delete" in found[0]
    assert mend(verify(run).problems)[0] == []  # nothing there may be thrown away


def test_problems_of_all_stages_are_told_together(run: Path) -> None:
    for pattern in FILES:
        flip(one(run, pattern))
    one(run, "corpus/*.idx").unlink()
    (run / "encoding" / "config.yaml").write_text("no_such_key: 1\n")
    text = "\n".join(messages(run))
    for pattern in FILES:
        assert str(one(run, pattern)) in text
    assert ".idx: no such file" in text
    assert "config.yaml" in text
    assert len(messages(run)) == len(FILES) + 2


def test_tensors_that_do_not_fit_their_manifest_or_the_corpus_are_named(run: Path) -> None:
    """With the right checksums: as someone would who made them."""
    directory = run / "encoding"
    manifest = json.loads((directory / "manifest.json").read_text())
    rows = directory / manifest["parts"][1]["file"]
    tensors = load_file(rows)
    tensors["rows"] = np.concatenate([tensors["rows"], tensors["rows"][:1]])
    tensors["rows"][0, 0, 0] = np.nan
    save_file(tensors, rows, {"index": "1", "first_id": "5"})
    manifest["parts"][1]["sha256"] = sha256_of(rows)
    experts = directory / "experts.safetensors"
    weights = load_file(experts)
    name = min(weights)
    weights[name] = weights[name][:-1]
    save_file(weights, experts)
    manifest["experts"]["sha256"] = sha256_of(experts)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    text = "\n".join(m for m in messages(run) if "/index/" not in m)
    assert "first_id is 5 where the corpus has 4" in text
    assert "number of rows is 5 where the corpus has 4" in text
    assert "rows have shape (5," in text
    assert "rows holds numbers that are infinite or undefined" in text
    assert f"{name} has shape" in text


def test_an_adapter_of_other_experts_is_told(run: Path) -> None:
    """A stop came between the manifest and what peft loads."""
    adapter = run / "encoding" / "adapter_model.safetensors"
    adapter.unlink()
    assert messages(run) == [], "an encoding of before had none"
    shutil.copyfile(run / "encoding" / "experts.safetensors", adapter)
    assert messages(run) == []
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"x")
    (told,) = messages(run)
    assert "adapter_model.safetensors: these aren't the encoding's experts" in told


def test_parts_of_another_corpus_are_told(run: Path) -> None:
    corpus = CorpusManifest.load(run / "corpus")
    shutil.rmtree(run / "corpus")
    other = run.parent / "other.jsonl"
    lines = [{"id": f"q{i}", "title": f"T{i}", "text": f"Text {i}."} for i in range(7)]
    other.write_text("\n".join(map(json.dumps, lines)))
    from sharding.ingest.prepare import prepare

    prepare([str(other)], run / "corpus", partition_size=3)
    text = "\n".join(messages(run))
    assert len(corpus.partitions) == 3
    assert "parts[0]: has 4 passages from id 0 on where the corpus has 3 from 0 on" in text
    assert "identity.corpus: it was trained on other shards" in text
    assert "num_passages is 10 where the corpus has 7" in text
    assert "/corpus has changed since the index was built" in text


def test_an_index_of_other_rows_or_experts_is_told(run: Path) -> None:
    path = run / "encoding" / "manifest.json"
    values = json.loads(path.read_text())
    assert messages(run, quick=True) == []
    for of in (values["parts"][1], values["experts"]):
        before = of["sha256"]
        of["sha256"] = "0" * 64
        path.write_text(json.dumps(values))
        (message,) = messages(run, quick=True)
        assert "/encoding has changed since the index was built" in message
        assert "run `polyprag index RUN` again" in message
        of["sha256"] = before


def test_an_index_of_a_corpus_that_grew_is_sound_and_says_how_far_it_goes(run: Path) -> None:
    source = run.parent / "more.jsonl"
    source.write_text(json.dumps({"id": "new", "title": "Kim", "text": "Kim was born in Rome."}))
    append_passages(run / "corpus", [str(source)])
    found = verify(run)
    assert [p for p in found.problems if f"{run}/index" in p.message] == []
    assert str(found.checked["index"]).startswith("10 of 11 passages, ")


def test_an_index_that_holds_a_removed_passage_is_told(run: Path) -> None:
    remove_passages(run / "corpus", [5], count=counts_of)
    text = "\n".join(messages(run, quick=True))
    assert "removed: its files hold 1 passage that the corpus no longer has, 5 first" in text
    assert "index: " not in text and "has changed since the index" not in text
    manifest = run / "index" / "manifest.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values | {"removed": [5]}))  # a lie
    text = "\n".join(m for m in messages(run) if "/index/" in m)
    for part in ("passages", "rows"):
        assert f"index/{part}-" in text
        assert "holds passage 5, which the manifest says is removed" in text


def test_rows_of_other_passages_are_told_by_the_command(run: Path, cli: Any) -> None:
    """With the right checksums, as if they had been written so."""
    rows = one(run, "index/rows-*/rows.npy")
    np.save(rows, np.load(rows)[::-1])
    for path in (rows.with_name("component.json"), run / "index" / "manifest.json"):
        values = json.loads(path.read_text())
        parts = values["segments"][0]["components"]["rows"] if "segments" in values else [values]
        parts[0]["files"]["rows.npy"]["sha256"] = sha256_of(rows)
        path.write_text(json.dumps(values))
    found = cli(run)
    assert found.exit_code == 2
    assert f"error: {run}: 1 problem" in found.output
    assert f"{rows.parent}: passage 0 has " in found.output
    assert "(10 of 10 passages looked up disagree)" in found.output
    assert "; a sample of 10 looked up in all parts" in found.output
    assert cli(run, "--quick").exit_code == 0
    (run / "encoding" / "config.yaml").unlink()  # what isn't sound says nothing of the rows
    assert "passage 0" not in cli(run).output


def test_rows_of_a_removed_passage_are_told_with_the_remedy(run: Path) -> None:
    """As if `remove` had stopped after the corpus; verify finds nothing once it has ended."""
    remove_passages(run / "corpus", [2], count=counts_of)
    text = "\n".join(messages(run))
    assert (
        "encoding/rows/part-00000" in text and "holds rows of 1 removed passages, 2 first" in text
    )
    assert "run `polyprag remove RUN --ids 2` again" in text
    assert "identity.corpus: it was trained on other shards" in text
    assert CliRunner().invoke(main, ["remove", str(run), "--ids", "2"]).exit_code == 0
    assert messages(run) == []
    checkpoint = CheckpointManifest.load(str(run / "checkpoints"))
    assert checkpoint is not None
    path = run / "checkpoints" / checkpoint.rows[0].file
    part = load_rows(path)
    part.exp_avg[2] = 1.0
    sha256, _ = save_rows(path, part)
    values = json.loads((run / "checkpoints" / "manifest.json").read_text())
    values["rows"]["0"]["sha256"] = sha256
    (run / "checkpoints" / "manifest.json").write_text(json.dumps(values))
    (message,) = messages(run)
    assert str(path) in message and "2 first" in message


def test_an_encoding_of_the_first_passages_is_no_damage(run: Path, cli: Any) -> None:
    source = run.parent / "more.jsonl"
    source.write_text(json.dumps({"id": "q", "title": "Q", "text": "Q Smith was born in Bern."}))
    append_passages(run / "corpus", [str(source)])
    assert messages(run) == []
    shown = cli(run, "--quick")
    assert "encoding: 10 of 11 rows in 3 parts" in shown.stdout
    assert "note: " in shown.stdout
    assert "has no rows of the corpus's last 1 passage, from 10 on" in shown.stdout
    assert "is of the first 3 of the corpus's 4 partitions" in shown.stdout
    assert len(json.loads(cli(run, "--quick", "--json").stdout)["notes"]) == 2


def test_leftovers_of_all_stages_go_when_they_are_old(run: Path) -> None:
    def files() -> set[str]:
        return {str(path.relative_to(run)) for path in run.rglob("*")}

    before = files()
    stray = [
        "corpus/part-00007-0123456789ab.tar",
        "encoding/.manifest.json.0123abcd.tmp",
        "encoding/experts-00000000abcd.safetensors",
        "encoding/rows/part-00000-00000000abcd.safetensors",
        "checkpoints/rows-00000-step-00000009.safetensors",
        "index/bm25-0123456789ab/data.npy",
        "index/.rows-0123456789ab.0123abcd.tmp/rows.npy",
    ]
    for name in stray:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(b"x")
    (run / "checkpoints" / "notes.txt").write_text("the user's own")
    found = verify(run, quick=True).problems
    assert len(found) == len(stray)
    assert mend(found)[0] == []
    then = time.time() - 7200
    for path in run.rglob("*"):
        os.utime(path, (then, then))
    done, left = mend(verify(run, quick=True).problems)
    assert (len(done), left) == (len(stray), [])
    assert files() == before | {"checkpoints/notes.txt"}
    assert messages(run) == []


def test_a_run_in_object_storage_is_verified(
    run: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fs, root = fsspec.core.url_to_fs(f"{s3}/run")
    fs.put(str(run), root, recursive=True)
    url = f"{s3}/run"
    assert messages(url) == []
    for pattern in FILES:
        name = one(run, pattern).relative_to(run)
        fs.pipe_file(f"{root}/{name}", b"x" * one(run, pattern).stat().st_size)
    text = "\n".join(messages(url))
    for pattern in FILES:
        assert f"{url}/{one(run, pattern).relative_to(run)}: " in text


@dataclass
class Cli:
    """What a command printed."""

    runner: CliRunner = field(default_factory=CliRunner)

    def __call__(self, *arguments: Any) -> Any:
        return self.runner.invoke(main, ["verify", *map(str, arguments)])


@pytest.fixture
def cli() -> Callable[..., Any]:
    return Cli()


def test_command_exits_with_0_or_2_and_repairs(run: Path, cli: Any) -> None:
    sound = cli(run)
    assert sound.exit_code == 0
    assert "corpus: 10 passages in 3 partitions" in sound.output
    index = one(run, "corpus/*.idx")
    content = index.read_bytes()
    index.unlink()
    shard = one(run, "corpus/part-00002-*.tar")
    flip(shard)
    before = shard.read_bytes()
    damaged = cli(run)
    assert damaged.exit_code == 2
    assert f"error: {run}: 2 problems; --repair mends 1 of them" in damaged.output
    assert not index.exists()
    repaired = cli(run, "--repair")
    assert repaired.exit_code == 2
    assert f"repaired: {index}: made anew from its shard" in repaired.output
    assert f"{shard}: SHA-256 differs" in repaired.output
    assert f"error: {run}: 1 problem" in repaired.output
    assert index.read_bytes() == content
    assert shard.read_bytes() == before
    assert cli(run, "--quick").exit_code == 0


def test_command_looks_again_once_it_has_made_a_corpus_manifest(run: Path, cli: Any) -> None:
    (run / "corpus" / "manifest.json").unlink()
    one(run, "corpus/*.idx").unlink()
    repaired = json.loads(cli(run, "--repair", "--json").stdout)
    assert [what.partition(": ")[2][:9] for what in repaired["repaired"]] == ["made anew"] * 2
    assert repaired["checked"]["corpus"] == "10 passages in 3 partitions"
    assert repaired["problems"] == []


def test_command_prints_one_json_object(run: Path, cli: Any) -> None:
    sound = json.loads(cli(run, "--json", "--quick").stdout)
    assert (sound["sound"], sound["problems"], sound["repaired"]) == (True, [], [])
    one(run, "corpus/*.idx").unlink()
    found = cli(run, "--json", "--workers", "2")
    assert found.exit_code == 2
    (problem,) = json.loads(found.stdout)["problems"]
    assert problem["file"].endswith(".idx")
    assert problem["repairable"]
    fixed = json.loads(cli(run, "--json", "--repair").stdout)
    assert (fixed["sound"], len(fixed["repaired"])) == (True, 1)


def test_a_directory_that_is_no_run_is_told(tmp_path: Path, cli: Any) -> None:
    missing = cli(tmp_path / "nowhere")
    assert missing.exit_code == 2
    assert "manifest.json: no such file; run `polyprag prepare` first" in missing.output


def test_a_calibration_is_read_and_one_of_other_experts_is_told_of(run: Path) -> None:
    rule = CalibratedRule(
        weights={"match": 1.0},
        intercept=0.0,
        threshold=0.5,
        num_questions=40,
        f1=0.5,
        coverage=0.5,
        f1_trusted=0.9,
    )
    assert "abstention" not in verify(run).checked
    own = EncodingManifest.load(str(run / "encoding")).experts.sha256
    for experts, notes in ((own, 0), (None, 0), ("0" * 64, 1)):
        Abstention(experts_sha256=experts, settings={}, modes={"poly": rule}).save(run)
        found = verify(run)
        assert found.problems == [] and found.checked["abstention"] == "calibrated for poly"
        assert len([note for note in found.notes if "polyprag calibrate RUN" in note]) == notes
    path = run / "abstention.json"
    path.write_text(path.read_text().replace('"match"', '"mesh"'))
    (message,) = messages(run)
    assert message.startswith(f"{path}: weights must be of match, mean_logprob")

"""`polyprag prepare` as its users meet it: what its options do."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from polyprag.cli import main
from polyprag.config.files import load_config

LINES = [
    {"_id": "a", "contents": "one two three four five six", "title": "A"},
    {"_id": "b", "contents": "seven", "title": "B"},
    {"_id": "c", "contents": "seven", "title": "B"},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def prepare(run: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["prepare", str(run), *map(str, arguments)])


def test_options_reach_the_corpus_and_others_are_refused_later(
    source: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ["--map", "id=_id,text=contents", "--chunk-words", "3", "--drop-duplicates"]
    result = prepare(run, source, *options, "--workers", "2")
    assert result.exit_code == 0, result.output
    assert "skipped 1 passage: duplicate text" in result.output
    assert "3 passages in 1 partition\n" in result.output
    assert "note: 7 of 8 lanes have no partition" in result.stderr
    assert "with data.partition_size=1, or" in result.stderr
    assert "reading: " in result.stderr and "writing partitions: 3/3 passages" in result.stderr
    manifest = json.loads((run / "corpus" / "manifest.json").read_text())
    assert manifest["options"] == {
        "fields": {"id": "_id", "title": "title", "text": "contents"},
        "chunk_words": 3,
        "drop_duplicates": True,
        "on_error": "stop",
        "quoting": "csv",
    }
    before = (run / "corpus" / "manifest.json").stat().st_mtime_ns
    assert prepare(run, source, *options).exit_code == 0
    assert (run / "corpus" / "manifest.json").stat().st_mtime_ns == before
    other = prepare(run, source, *options[:3], "4", "--drop-duplicates")
    assert other.exit_code == 2
    assert "made with chunk_words=3, and this is 4" in other.stderr
    assert prepare(run, source, *options[:2], "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--map", "id"], "'id' names no field of a passage"),
        (["--chunk-words", "0"], "x>=1"),
        (["--workers", "0"], "x>=1"),
        (
            ["--map", "id=key"],
            "key is not there; the fields are _id, contents, title; say --map ''",
        ),
    ],
)
def test_mistakes_are_one_line_with_status_2(
    source: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = prepare(tmp_path / "run", source, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_model_that_is_not_there_is_said_before_anything_is_made(
    source: Path, tmp_path: Path
) -> None:
    run, adapter = tmp_path / "run", tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    for path, message in [(tmp_path / "none", "there is no directory"), (adapter, "an adapter")]:
        result = prepare(run, source, f"model.path={path}", "--map", "id=_id,text=contents")
        assert result.exit_code == 2
        assert message in result.stderr and f"model.path='{path}'" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not run.exists()


def test_the_path_of_a_model_is_saved_as_seen_from_everywhere(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3] / "examples")
    options = ["--map", "id=_id,text=contents"]
    assert prepare(tmp_path / "a", source, "model.path=tiny-base", *options).exit_code == 0
    saved = load_config(run_dir=tmp_path / "a").model.path
    assert Path(saved).is_absolute() and (Path(saved) / "config.json").is_file()
    assert prepare(tmp_path / "b", source, "--config", "quickstart", *options).exit_code == 0
    assert load_config(run_dir=tmp_path / "b").model.path == "polyprag:tiny-base"
    assert prepare(tmp_path / "c", source, "model.path=owner/name", *options).exit_code == 0
    assert load_config(run_dir=tmp_path / "c").model.path == "owner/name"

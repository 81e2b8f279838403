"""Text from elsewhere in all that commands show: nothing in it may act on a terminal."""

import json
import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from transformers import PreTrainedTokenizerBase

from cluster.record.events import read_events, record
from cluster.record.log_format import Origin, log_formatter
from polyprag.cli import main
from polyprag.config.files import load_config, save_config
from polyprag.progress import progress
from sharding.corpus.manifest import CorpusManifest
from sharding.ingest.prepare import prepare
from sharding.printable import printable, printable_json, printable_line, without_passwords

# Clears the screen, turns text around, hides a line behind another one, opens a C1 sequence.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202eevil\u2066\x9b31m\r\nfake: all is well\x7f\u2028\U000e0041"
FORGED = "fake: all is well"


def polyprag(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_harmless(result: Result) -> None:
    text = result.stdout + result.stderr
    left = {
        character
        for character in text
        if character != "\n"
        and (
            unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF")
            or unicodedata.bidirectional(character) in ("LRI", "RLI", "FSI", "PDI")
            or 0xE0000 <= ord(character) <= 0xE007F
        )
    }
    assert not left, (left, text)
    assert not any(line.startswith(FORGED) for line in text.splitlines()), text
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception


@pytest.fixture
def run(
    tmp_path: Path,
    make_random_llama: Callable[..., Any],
    make_byte_tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> Path:
    base = tmp_path / "base"
    make_random_llama(seed=3).save_pretrained(base)
    make_byte_tokenizer().save_pretrained(base)
    run = tmp_path / "run"
    source = tmp_path / "passages.jsonl"
    lines = [
        {"id": f"p{i}{HOSTILE}", "title": f"T{i}{HOSTILE}", "text": f"Text {i} {HOSTILE}."}
        for i in range(5)
    ]
    source.write_text("\n".join(json.dumps(line) for line in lines))
    prepare([str(source)], run / "corpus", partition_size=4)
    settings = [f"model.path={base}", "generation.max_new_tokens=2", "index.lsa_dims=4"]
    config = load_config(overrides=[*settings, f"log.mlflow_experiment=a{HOSTILE!r}"])
    save_config(config, run)
    return run


def test_commands_show_text_from_elsewhere_written_out(run: Path) -> None:
    (run / "lease").mkdir()
    holder = {
        "purpose": f"encode{HOSTILE}",
        "user": f"root{HOSTILE}",
        "host": f"node{HOSTILE}",
        "machine": "m",
        "pid": 1,
        "started": "then",
        "since": 1.7e9,
        "nonce": "n",
        "length_s": 60,
    }
    (run / "lease" / "00000000001").write_text(json.dumps(holder))
    record(str(run), "failed", detail=f"on {HOSTILE}", rank=1)
    assert_harmless(polyprag("status", run))
    assert_harmless(polyprag("status", run, "--json"))
    for path in (run / "lease").iterdir():
        path.unlink()
    built = polyprag("index", run)
    assert built.exit_code == 0, built.output
    for arguments in (
        ("ask", run, f"Text 1 {HOSTILE}", "--mode", "rag"),
        ("ask", run, "Text 1", "--mode", "rag", "--json"),
        ("inspect", run),
        ("verify", run),
        ("verify", run, "--json"),
        ("config", "show", "--run", run),
        ("ask", run, f"train.{HOSTILE}=1"),
        ("ask", run, "Text 1", "--mode", HOSTILE),
        ("ask", run, "q", f"model.path={HOSTILE}"),
        ("evaluate", run, "--questions", f"no{HOSTILE}", "--out", run / "out"),
        ("prepare", run, f"no-such{HOSTILE}.jsonl"),
        ("index", run, "--config", HOSTILE),
        (HOSTILE,),
        ("status", f"{run}{HOSTILE}"),
        ("prepare", f"{run}{HOSTILE}", run.parent / "passages.jsonl"),
        ("remove", run, "--keys", f"p9{HOSTILE.replace(',', '')}", "--yes"),
        ("remove", run, "--ids", "1,2", "--yes"),
    ):
        assert_harmless(polyprag(*arguments))


def test_what_remove_names_before_it_asks_stays_on_its_line(run: Path) -> None:
    shown = polyprag("remove", run, "--ids", "0", "--yes").stderr
    (line,) = [line for line in shown.splitlines() if line.startswith("  0  ")]
    assert r"p0\x1b[2J\x1b]0;owned\x07\u202eevil" in line and FORGED in line


def test_damaged_files_with_hostile_contents_are_told_harmlessly(run: Path) -> None:
    (run / "config.yaml").write_text('"a\\e[2J": {b: "\\u202e"}\n')
    assert_harmless(polyprag("ask", run, "Text 1"))
    (run / "config.yaml").write_bytes(b"train: {\x1b[2J\n")
    assert_harmless(polyprag("ask", run, "Text 1"))
    manifest = run / "corpus" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["partitions"][0]["file"] = HOSTILE
    manifest.write_text(json.dumps(values))
    assert_harmless(polyprag("index", run))
    values[HOSTILE] = 1
    manifest.write_text(json.dumps(values))
    assert_harmless(polyprag("verify", run))


def test_characters_are_written_out_and_others_left() -> None:
    assert printable("a\x1b[0m\n\u202eb\x9b\U000e0041") == r"a\x1b[0m\n\u202eb\x9b\U000e0041"
    assert printable("a\nb\tc\r", lines=True) == "a\nb\tc\\r"
    assert printable("a\udcffb") == r"a\udcffb"
    for said in ("Łódź", "नमस्ते", "می‌خواهم", "👩‍🔬", "日本語", "[bold]x[/bold]", r"C:\new"):
        assert printable(said) == said
    assert printable_line(" a \n b\u2028c\x1b") == r"a b c\x1b"


def test_json_says_the_same_without_such_characters() -> None:
    for value in (HOSTILE, [HOSTILE], {HOSTILE: "Łódź \U000e0041"}):
        written = printable_json(json.dumps(value, ensure_ascii=False, indent=1))
        assert json.loads(written) == value
        assert "\x1b" not in written and "\u202e" not in written and "\U000e0041" not in written


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("http://me:secret@host:80/v1", "http://***@host:80/v1"),
        ("https://token@host/x", "https://***@host/x"),
        ("at s3://key:pass@bucket/a, then", "at s3://***@bucket/a, then"),
        ("abfs://box@account.example/a", "abfs://box@account.example/a"),  # Azure's own form
        ("http://host/a@b?c=d:e@f", "http://host/a@b?c=d:e@f"),
    ],
)
def test_passwords_in_urls_arent_shown(said: str, shown: str) -> None:
    assert printable(said) == without_passwords(said) == shown


def test_events_logs_manifests_and_errors_have_no_passwords(tmp_path: Path) -> None:
    record(str(tmp_path), "failed", detail="at http://me:secret@host/x")
    assert read_events(str(tmp_path))[0].detail == "at http://***@host/x"
    formatter = log_formatter("text", Origin(0, 1, "id", "host"))
    entry = logging.LogRecord("a", 20, "b", 1, "at http://me:secret@host \x1b[2J", (), None)
    line = formatter.format(entry)
    assert "secret" not in line and "\x1b" not in line
    refused = polyprag("ask", "http://me:secret@127.0.0.1:1/run", "q")
    assert refused.exit_code != 0 and "secret" not in refused.output


def test_the_sources_in_a_manifest_name_no_password(tmp_path: Path) -> None:
    import fsspec

    url = "memory://me:secret@host/passages.jsonl"
    with fsspec.open(url, "wb") as file:
        file.write(b'{"id": "1", "title": "t", "text": "x"}\n')
    prepare([url], tmp_path / "corpus", partition_size=4)
    (source,) = CorpusManifest.load(tmp_path / "corpus").source
    assert "secret" not in source and source.endswith("host/passages.jsonl")


def test_progress_shows_notes_and_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2, f"a[red]{HOSTILE}", unit="things") as advance:
        advance(2, f"note{HOSTILE}")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\u202e" not in shown and len(shown.splitlines()) == 1
    assert "a[red]" in shown


def test_a_long_line_is_cut_and_says_so() -> None:
    assert printable_line("a  b\nc", 5) == "a b c"
    assert printable_line("a  b\nc d", 6) == "a b..."
    assert len(printable_line(HOSTILE, 10)) == 10

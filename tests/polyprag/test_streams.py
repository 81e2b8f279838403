"""A reader that goes away ends no work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharding.corpus.manifest import CorpusManifest
from sharding.ingest.prepare import prepare

COMMAND = str(Path(sys.executable).with_name("polyprag"))


def unread() -> int:
    """A pipe's end for writing, the other end of which is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def write_source(path: Path) -> str:
    lines = [{"id": f"p{i}", "title": f"T {i}", "text": f"Text {i}."} for i in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.mark.parametrize("which", ["stdout", "stderr", "both"])
def test_work_is_done_and_counts_though_nobody_reads_of_it(tmp_path: Path, which: str) -> None:
    source = write_source(tmp_path / "passages.jsonl")
    writer = unread()
    streams = {
        "stdout": subprocess.PIPE if which == "stderr" else writer,
        "stderr": subprocess.PIPE if which == "stdout" else writer,
    }
    try:
        run = str(tmp_path / "run")
        command = [COMMAND, "prepare", run, source, "--workers", "1"]
        done = subprocess.run(command, check=False, timeout=300, text=True, **streams)
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert CorpusManifest.load(tmp_path / "run" / "corpus").num_passages == 20
    if which == "stderr":
        assert "20 passages" in done.stdout
    if which == "stdout":
        assert "Traceback" not in done.stderr and "writing partitions: 20/20" in done.stderr


def test_an_error_keeps_its_status_though_nobody_reads_it(tmp_path: Path) -> None:
    writer = unread()
    command = [COMMAND, "prepare", str(tmp_path / "run"), str(tmp_path / "none.jsonl")]
    try:
        done = subprocess.run(command, check=False, timeout=300, stderr=writer, stdout=writer)
    finally:
        os.close(writer)
    assert done.returncode == 2


def test_what_only_prints_ends_quietly(tmp_path: Path) -> None:
    show = f"set -o pipefail; {COMMAND} config show | head -n 1"
    done = subprocess.run(["bash", "-c", show], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""
    prepare([write_source(tmp_path / "passages.jsonl")], tmp_path / "corpus", partition_size=20)
    watch = f"set -o pipefail; {COMMAND} status {tmp_path} --watch 0.5 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", watch], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 141 and "Traceback" not in done.stderr

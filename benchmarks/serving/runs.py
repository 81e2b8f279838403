"""A small run, and a server of it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.encoded import encoded_run
from harness.examples import first_questions
from polyprag.config import Config
from polyprag.config.files import load_config
from polyprag.serving.server import open_port, url_of

Questions = Sequence[str]


def small_run(directory: Path) -> tuple[Path, Config, Questions]:
    """Encodes the passages of some of PopQA's questions, for one epoch."""
    passages, asked = first_questions(directory, num_questions=40)
    config = load_config(["quickstart"], ["data.partition_size=16", "train.epochs=1"])
    run = encoded_run(directory, passages, config)
    lines = asked.read_text(encoding="utf-8").splitlines()
    return run, config, [json.loads(line)["question"] for line in lines]


@contextmanager
def serving(run: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Serves a run in a process of its own, on a free port of this machine."""
    with open_port("127.0.0.1", 0) as free:
        port = url_of(free).rpartition(":")[2]
    line = [sys.executable, "-m", "polyprag", "serve", str(run), "--port", port, *options]
    process = subprocess.Popen(
        line, stderr=subprocess.PIPE, text=True, env=os.environ, start_new_session=True
    )
    try:
        assert process.stderr is not None
        said = ""
        for told in process.stderr:
            said += told
            if found := re.search(r"interface: (\S+)/v1", told):
                yield found[1], process
                break
        else:
            sys.exit(f"the server ended: {said}")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

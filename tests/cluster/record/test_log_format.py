"""Every line of a worker's log says where it comes from."""

import json
import logging
import sys
from datetime import datetime

from cluster.record.log_format import Origin, log_formatter

ORIGIN = Origin(rank=1, world_size=4, run_id="12ab34cd", host="node-7")


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    found = sys.exc_info() if error else None
    return logging.LogRecord("cluster.x", logging.WARNING, "x.py", 1, message, arguments, found)


def test_json_is_one_object_a_line() -> None:
    formatter = log_formatter("json", ORIGIN)
    line = formatter.format(record("%d of\n%d", 3, 4))
    assert "\n" not in line
    found = json.loads(line)
    assert datetime.fromisoformat(found.pop("time")).tzinfo is not None
    assert found == {
        "level": "WARNING",
        "logger": "cluster.x",
        "message": "3 of\n4",
        "rank": 1,
        "world_size": 4,
        "run_id": "12ab34cd",
        "host": "node-7",
    }
    try:
        raise ValueError("no")
    except ValueError:
        failed = formatter.format(record("failed", error=True))
    assert "\n" not in failed
    assert "ValueError: no" in json.loads(failed)["exc_info"]


def test_text_has_rank_and_run() -> None:
    line = log_formatter("text", ORIGIN).format(record("%d of %d", 3, 4))
    assert line.endswith("WARNING run 12ab34cd rank 1/4 on node-7 cluster.x: 3 of 4")

"""Weights & Biases: the real library offline, and a stand-in for what only its server knows."""

import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.record.metrics import StepMetrics
from cluster.record.sinks.wandb import WandbSink
from polyprag.config import LogConfig

Make = Callable[..., StepMetrics]
_BLOCK = 2**15


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, after a header of seven bytes."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:  # too little is left of the block
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def logged(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The run and the steps of W&B's own file."""
    from wandb.proto.wandb_internal_pb2 import Record

    run: dict[str, Any] = {}
    steps = []
    for data in records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            run = {
                "id": record.run.run_id,
                "name": record.run.display_name,
                "project": record.run.project,
                "entity": record.run.entity,
                "config": {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json)
                    for item in record.run.config.update
                },
            }
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            steps.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
    return run, steps


@pytest.mark.slow
def test_offline_run_holds_the_steps_under_the_run_s_id(
    tmp_path: Path, step_metrics: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    run_dir = tmp_path / "wiki"
    (run_dir / "logs").mkdir(parents=True)
    config = LogConfig(sinks=["wandb"], wandb_project="poly", wandb_entity="team")
    sink = WandbSink(str(run_dir), config, run_id="12ab34cd", settings={"train.epochs": 4})
    for step in (1, 2, 3):
        sink.write(step_metrics(step))
    sink.close()
    (file,) = (run_dir / "logs" / "wandb").glob("offline-run-*/run-12ab34cd.wandb")
    run, steps = logged(file)
    assert (run["id"], run["name"], run["project"]) == ("12ab34cd", "wiki", "poly")
    assert run["config"]["train.epochs"] == 4
    assert [step["_step"] for step in steps] == [1, 2, 3]
    assert [step["loss"] for step in steps] == [1.0, 0.5, 1 / 3]
    assert [step["tokens_per_second"] for step in steps] == [200.0] * 3


def test_restart_resumes_the_run_and_leaves_out_what_it_has(
    step_metrics: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def init(**arguments: Any) -> Any:
        told.append(arguments)
        return SimpleNamespace(
            starting_step=4,  # as the server says
            log=lambda values, step, commit: told.append((step, values["loss"], commit)),
            finish=lambda exit_code: told.append(exit_code),
        )

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=dict))  # type: ignore[arg-type]
    sink = WandbSink("s3://bucket/wiki", LogConfig(), run_id="12ab34cd", settings={})
    for step in (3, 4):
        sink.write(step_metrics(step))
    sink.close(failed=True)
    started, *rest = told
    assert (started["id"], started["resume"], started["name"]) == ("12ab34cd", "allow", "wiki")
    assert started["dir"] is None
    assert rest == [(4, 0.25, True), 1]

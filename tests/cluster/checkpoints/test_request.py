"""Requests for a checkpoint: found, answered once durable, taken back, each to whom it is for."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from cluster.checkpoints.manifest import CheckpointManifest
from cluster.checkpoints.request import Request, RequestReader, request_checkpoint
from cluster.record.events import read_events
from polyprag.config.files import load_config


def waits_for(reader: RequestReader, request: Request) -> None:
    deadline = time.monotonic() + 60
    while reader.pending() is not request:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def asking(run: Path, request: Request, results: list[bool], **more: Any) -> threading.Thread:
    def work() -> None:
        arguments = {"by": "a test", "lease": 3, "timeout_s": 20.0} | more
        results.append(request_checkpoint(str(run), request, **arguments))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_greatest_request_counts_and_all_are_answered(tmp_path: Path) -> None:
    results: list[bool] = []
    with RequestReader(str(tmp_path), lease=3) as reader:
        assert reader.pending() is Request.NONE
        first = asking(tmp_path, Request.CHECKPOINT, results)
        waits_for(reader, Request.CHECKPOINT)
        second = asking(tmp_path, Request.STOP, results, lease=None)
        waits_for(reader, Request.STOP)
        assert results == []
        assert reader.answer().count("a test on ") == 1
        first.join()
        second.join()
        assert results == [True, True]
        assert reader.pending() is Request.NONE
    assert list((tmp_path / "requests").iterdir()) == []


@pytest.mark.parametrize("data", [b"{}", b'{"by": "\xff"}', b"[" * 100_000])
def test_a_damaged_request_is_deleted_and_the_others_are_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "0.json").write_bytes(data)
    results: list[bool] = []
    with RequestReader(str(tmp_path), lease=3) as reader:
        asked = asking(tmp_path, Request.CHECKPOINT, results)
        waits_for(reader, Request.CHECKPOINT)
        reader.answer()
        asked.join()
    assert results == [True]
    assert list((tmp_path / "requests").iterdir()) == []


def test_what_comes_after_the_question_waits_for_the_next_answer(tmp_path: Path) -> None:
    results: list[bool] = []
    with RequestReader(str(tmp_path), lease=3) as reader:
        first = asking(tmp_path, Request.CHECKPOINT, results)
        waits_for(reader, Request.CHECKPOINT)
        later = asking(tmp_path, Request.STOP, results)
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "requests").iterdir())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        reader.answer()  # the checkpoint was begun before the second asked
        first.join()
        assert results == [True]
        waits_for(reader, Request.STOP)
        reader.answer()
        later.join()
    assert results == [True, True]


def test_nobody_there_means_no_and_leaves_nothing(tmp_path: Path) -> None:
    assert not request_checkpoint(str(tmp_path), Request.STOP, by="a test", lease=1, timeout_s=0.3)
    assert list((tmp_path / "requests").iterdir()) == []


def test_requests_to_another_command_and_damaged_ones_are_deleted(tmp_path: Path) -> None:
    results: list[bool] = []
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "0.json").write_text('{"request": 9}')
    stale = asking(tmp_path, Request.STOP, results, lease=2)
    with RequestReader(str(tmp_path), lease=3) as reader:
        stale.join()  # its file is gone: the command that it was for is, too
        deadline = time.monotonic() + 60
        while list((tmp_path / "requests").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert reader.pending() is Request.NONE


def train_asked(run: Path, overrides: list[str], at: int, request: Request) -> None:
    """Trains; before a step, the first worker's directory has a request."""
    from torch import distributed

    import cluster.training.loop as training
    from cluster.training.train_encoding import train_encoding

    real = training.train_step

    def asked(*args: Any, step: int, **kwargs: Any) -> Any:
        if step == at and distributed.get_rank() == 0:
            kwargs["request"] = request
        return real(*args, step=step, **kwargs)

    training.train_step = asked  # type: ignore[assignment]
    outcome = train_encoding(str(run), load_config([], overrides))
    assert outcome.request is (Request.NONE if request is Request.CHECKPOINT else request)


@pytest.mark.parametrize("request_", [Request.CHECKPOINT, Request.RESTART, Request.STOP])
def test_training_that_was_asked_for_a_checkpoint_comes_to_the_same(
    workplace: Any, spawn: Any, train_workers: Any, straight_run: Any, request_: Request
) -> None:
    straight = straight_run(world_size=2)
    spawn(train_asked, workplace.run, workplace.overrides(), 6, request_, world_size=2)
    told = [event for event in read_events(str(workplace.run)) if event.kind == "checkpoint"]
    assert [event.step for event in told] == [7]
    saved = CheckpointManifest.load(str(workplace.run / "checkpoints"))
    assert saved is not None
    if request_ is not Request.CHECKPOINT:
        assert saved.step == 7 and not (workplace.run / "encoding").exists()
        assert len(workplace.losses()) == 7
        train_workers(workplace, world_size=2)
    assert workplace.losses() == straight.losses()
    for place in (workplace, straight):
        assert (place.run / "encoding").exists()
    ours, theirs = (
        load_file(p.run / "encoding" / "experts.safetensors") for p in (workplace, straight)
    )
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])

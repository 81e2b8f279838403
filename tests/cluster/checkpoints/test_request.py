"""Requests for a checkpoint: found, answered once durable, taken back, each to whom it is for."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.checkpoints import request as requests
from cluster.checkpoints.manifest import CheckpointManifest
from cluster.checkpoints.request import RequestReader, TrainingRequest, request_checkpoint
from cluster.record.events import read_events
from polyprag.config.files import load_config
from polyprag.encoding.reader import Encoding
from sharding.errors import FileError
from sharding.storage.lease import LeaseError, take


def waits_for(reader: RequestReader, request: TrainingRequest) -> None:
    deadline = time.monotonic() + 60
    while reader.pending() is not request:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def asking(
    run: Path, request: TrainingRequest, results: list[int | None], **more: Any
) -> threading.Thread:
    def work() -> None:
        arguments = {"by": "a test", "lease": 3, "timeout_s": 20.0} | more
        results.append(request_checkpoint(str(run), request, **arguments))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_greatest_request_counts_and_all_are_answered(tmp_path: Path) -> None:
    results: list[int | None] = []
    with RequestReader(str(tmp_path), lease=3) as reader:
        assert reader.pending() is TrainingRequest.NONE
        first = asking(tmp_path, TrainingRequest.CHECKPOINT, results)
        waits_for(reader, TrainingRequest.CHECKPOINT)
        second = asking(tmp_path, TrainingRequest.STOP, results, lease=None)
        waits_for(reader, TrainingRequest.STOP)
        assert results == []
        assert reader.answer(8).count("a test on ") == 1
        first.join()
        second.join()
        assert results == [8, 8]
        assert reader.pending() is TrainingRequest.NONE
    assert list((tmp_path / "requests").iterdir()) == []


@pytest.mark.parametrize("data", [b"{}", b'{"by": "\xff"}', b"[" * 100_000, b'{"request": 9}'])
def test_a_damaged_request_is_passed_over_and_the_others_are_read(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "0.json").write_bytes(data)
    results: list[int | None] = []
    with RequestReader(str(tmp_path), lease=3) as reader:
        asked = asking(tmp_path, TrainingRequest.CHECKPOINT, results)
        waits_for(reader, TrainingRequest.CHECKPOINT)
        reader.answer(5)
        asked.join()
    assert results == [5]
    assert [path.name for path in (tmp_path / "requests").iterdir()] == ["0.json"]


def test_what_comes_after_the_question_waits_for_the_next_answer(tmp_path: Path) -> None:
    results: list[int | None] = []
    with RequestReader(str(tmp_path), lease=3) as reader:
        first = asking(tmp_path, TrainingRequest.CHECKPOINT, results)
        waits_for(reader, TrainingRequest.CHECKPOINT)
        later = asking(tmp_path, TrainingRequest.STOP, results)
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "requests").iterdir())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        reader.answer(5)  # the checkpoint was begun before the second asked
        first.join()
        assert results == [5]
        waits_for(reader, TrainingRequest.STOP)
        reader.answer(6)
        later.join()
    assert results == [5, 6]


def test_nobody_there_means_no_and_leaves_nothing(tmp_path: Path) -> None:
    asked = request_checkpoint(
        str(tmp_path), TrainingRequest.STOP, by="a test", lease=1, timeout_s=0.3
    )
    assert asked is None
    assert list((tmp_path / "requests").iterdir()) == []


def test_a_request_that_vanishes_is_no_answer(tmp_path: Path) -> None:
    results: list[int | None] = []
    asked = asking(tmp_path, TrainingRequest.STOP, results, timeout_s=1.0)
    deadline = time.monotonic() + 60
    while not (files := list((tmp_path / "requests").glob("*.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    files[0].unlink()
    asked.join()
    assert results == [None]


def test_an_answer_under_another_lease_is_none(tmp_path: Path) -> None:
    results: list[int | None] = []
    asked = asking(tmp_path, TrainingRequest.STOP, results, lease=3, timeout_s=1.0)
    deadline = time.monotonic() + 60
    while not (files := list((tmp_path / "requests").glob("*.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    answer = files[0].with_name(f"answer-{files[0].name}")
    answer.with_suffix(".new").write_text('{"lease": 4, "step": 12}')
    answer.with_suffix(".new").rename(answer)
    asked.join()
    assert results == [None]


def test_requests_to_another_command_stay(tmp_path: Path) -> None:
    results: list[int | None] = []
    stale = asking(tmp_path, TrainingRequest.STOP, results, lease=2, timeout_s=2.0)
    with RequestReader(str(tmp_path), lease=3) as reader:
        own = asking(tmp_path, TrainingRequest.CHECKPOINT, results)
        waits_for(reader, TrainingRequest.CHECKPOINT)  # the other is not among them
        assert len(list((tmp_path / "requests").iterdir())) == 2
        reader.answer(5)
        own.join()
        assert len(list((tmp_path / "requests").iterdir())) == 1
    stale.join()
    assert results == [5, None]
    assert list((tmp_path / "requests").iterdir()) == []


def test_who_has_lost_the_lease_is_told_so_and_not_that_a_checkpoint_was_made(
    tmp_path: Path,
) -> None:
    with take(tmp_path / "lease", purpose="encode") as lease:
        pass
    with (
        take(tmp_path / "lease", purpose="encode") as newer,
        RequestReader(str(tmp_path), lease=newer.number),
        pytest.raises(LeaseError, match="taken over"),
    ):
        request_checkpoint(
            str(tmp_path), TrainingRequest.STOP, by="a test", lease=lease.number, timeout_s=20.0
        )
    assert list((tmp_path / "requests").iterdir()) == []


@pytest.mark.parametrize("name", ["exists", "check_lease"])
def test_who_waits_survives_a_storage_that_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real, failed = getattr(requests, name), threading.Event()

    def fail(*arguments: Any) -> Any:
        if threading.current_thread().name == "requests" or failed.is_set():
            return real(*arguments)
        failed.set()
        raise FileError("can't be opened: Input/output error")

    monkeypatch.setattr(requests, name, fail)
    results: list[int | None] = []
    with RequestReader(str(tmp_path), lease=3) as reader:
        asked = asking(tmp_path, TrainingRequest.CHECKPOINT, results)
        waits_for(reader, TrainingRequest.CHECKPOINT)
        assert failed.wait(timeout=60)
        reader.answer(5)
        asked.join()
    assert results == [5]
    assert list((tmp_path / "requests").iterdir()) == []


def test_answers_that_nobody_takes_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_ANSWER_S", 0.5)
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "answer-0.json").write_text('{"lease": 3, "step": 12}')
    with RequestReader(str(tmp_path), lease=3):
        deadline = time.monotonic() + 60
        while list((tmp_path / "requests").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_storage_that_fails_for_a_while_stops_no_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(directory: str) -> list[str]:
        failed.set()
        raise OSError(5, "Input/output error")

    results: list[int | None] = []
    with monkeypatch.context() as patched:
        patched.setattr(requests, "list_names", fail)
        reader = RequestReader(str(tmp_path), lease=3)
        assert failed.wait(timeout=60)
    with reader:
        asked = asking(tmp_path, TrainingRequest.CHECKPOINT, results)
        waits_for(reader, TrainingRequest.CHECKPOINT)
        reader.answer(5)
        asked.join()
    assert results == [5]


def train_asked(run: Path, overrides: list[str], at: int, request: TrainingRequest) -> None:
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
    assert outcome.request is (
        TrainingRequest.NONE if request is TrainingRequest.CHECKPOINT else request
    )


@pytest.mark.parametrize(
    "request_", [TrainingRequest.CHECKPOINT, TrainingRequest.RESTART, TrainingRequest.STOP]
)
def test_training_that_was_asked_for_a_checkpoint_comes_to_the_same(
    workplace: Any, spawn: Any, train_workers: Any, straight_run: Any, request_: TrainingRequest
) -> None:
    straight = straight_run(world_size=2)
    spawn(train_asked, workplace.run, workplace.overrides(), 6, request_, world_size=2)
    told = [event for event in read_events(str(workplace.run)) if event.kind == "checkpoint"]
    assert [event.step for event in told] == [7]
    saved = CheckpointManifest.load(str(workplace.run / "checkpoints"))
    assert saved is not None
    if request_ is not TrainingRequest.CHECKPOINT:
        assert saved.step == 7 and not (workplace.run / "encoding").exists()
        assert len(workplace.losses()) == 7
        train_workers(workplace, world_size=2)
    assert workplace.losses() == straight.losses()
    for place in (workplace, straight):
        assert (place.run / "encoding").exists()
    ours, theirs = (Encoding.load(place.run).expert_state() for place in (workplace, straight))
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])

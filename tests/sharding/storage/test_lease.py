"""A directory has one holder at a time, whoever dies or is taken for dead."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from sharding.errors import FileError
from sharding.storage import lease as leases
from sharding.storage.files import atomic_write, join
from sharding.storage.lease import Holder, LeaseError, check_lease, read, take


def elsewhere(directory: str | Path, number: int, **changed: object) -> Holder:
    """The lease of a process on another machine, written over what is there."""
    values = {
        "purpose": "encode",
        "user": "ada",
        "host": "node-7",
        "machine": "another",
        "pid": os.getpid(),
        "started": "1",
        "since": 0.0,
        "nonce": "0",
        "length_s": 0.6,
    } | changed
    holder = msgspec.convert(values, Holder)
    with atomic_write(join(directory, f"lease-{number:08d}.json")) as file:
        file.write(msgspec.json.encode(holder))
    return holder


def test_second_holder_is_refused_until_the_first_gives_it_back(tmp_path: Path) -> None:
    with (
        take(tmp_path, purpose="encode"),
        pytest.raises(LeaseError, match=rf"in use: encode by .* \(process {os.getpid()}"),
    ):
        take(tmp_path, purpose="add")
    with take(tmp_path, purpose="add") as held:
        assert held.number == 2
    assert [path.name for path in tmp_path.iterdir()] == ["lease-00000002.json"]


def test_lease_that_could_not_be_given_back_does_not_bind_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = take(tmp_path, purpose="encode")
    with monkeypatch.context() as patched:

        def fail(*arguments: object, **options: object) -> None:
            raise FileError("the disk is full")

        patched.setattr(leases, "atomic_write", fail)
        held.close()
    current = read(tmp_path)
    assert current is not None and not current[1].released
    with take(tmp_path, purpose="encode") as held:
        assert held.number == 2


def test_lease_of_a_killed_process_is_taken_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from sharding.storage.lease import take; "
        "lease = take(sys.argv[1], purpose='encode'); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(LeaseError, match=f"process {process.pid}"):
            take(tmp_path, purpose="encode")
        process.send_signal(signal.SIGKILL)
        process.wait()
        waited: list[float] = []
        with take(tmp_path, purpose="encode", waiting=lambda _, s: waited.append(s)) as held:
            assert held.number == 2
        assert not waited
    finally:
        process.kill()
        process.wait()


def test_lease_from_another_machine_ends_when_it_is_not_renewed(tmp_path: Path) -> None:
    dead = elsewhere(tmp_path, 4)
    told: list[tuple[Holder, float]] = []
    started = time.monotonic()
    with take(tmp_path, purpose="encode", waiting=lambda *of: told.append(of)) as held:
        assert time.monotonic() - started >= dead.length_s
        assert held.number == 5
    assert [holder for holder, _ in told] == [dead]


def test_lease_from_another_machine_is_respected_while_it_is_renewed(tmp_path: Path) -> None:
    elsewhere(tmp_path, 1, length_s=60.0)
    renewal = threading.Timer(0.2, lambda: elsewhere(tmp_path, 1, length_s=1.0, renewals=1))
    renewal.start()
    with (
        pytest.MonkeyPatch.context() as patched,
        pytest.raises(LeaseError, match="encode by ada on node-7"),
    ):
        patched.setattr(leases.time, "sleep", lambda seconds, real=time.sleep: real(0.05))
        take(tmp_path, purpose="encode")
    renewal.join()


def test_holder_that_was_taken_for_dead_finds_out(tmp_path: Path) -> None:
    lost: list[str] = []
    with take(tmp_path, purpose="encode", length_s=0.3, lost=lost.append) as held:
        check_lease(tmp_path, held.number)
        elsewhere(tmp_path, held.number + 1)
        with pytest.raises(LeaseError, match=r"taken over.*encode by ada on node-7"):
            check_lease(tmp_path, held.number)
        deadline = time.monotonic() + 60
        while not lost:
            assert time.monotonic() < deadline, "the holder doesn't notice that it has lost it"
            time.sleep(0.05)
    assert len(lost) == 1 and "taken over" in lost[0]
    current = read(tmp_path)
    assert current is not None and current[1].user == "ada"  # closing changed nothing


def test_of_many_that_want_a_lease_one_has_it(tmp_path: Path) -> None:
    inside, most, turns = [], [0], [0]
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(5):
                while True:
                    try:
                        lease = take(tmp_path, purpose="encode")
                        break
                    except LeaseError:
                        time.sleep(0.002)
                inside.append(1)
                most[0] = max(most[0], len(inside))
                turns[0] += 1
                time.sleep(0.001)
                inside.pop()
                lease.close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert (most[0], turns[0]) == (1, 30)


def test_successor_that_came_and_went_is_not_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(tmp_path, purpose="first").close()
    real = leases.create
    late: list[int] = []

    def slow(url: str, data: bytes) -> bool:
        if not late:
            late.append(1)
            with monkeypatch.context() as patched:  # two others have it meanwhile
                patched.setattr(leases, "create", real)
                take(tmp_path, purpose="second").close()
                take(tmp_path, purpose="third").close()
        return real(url, data)

    monkeypatch.setattr(leases, "create", slow)
    with take(tmp_path, purpose="late") as held:
        assert held.number == 4
    assert [path.name for path in tmp_path.iterdir()] == ["lease-00000004.json"]


HOLDER = {
    "purpose": "encode",
    "user": "ada",
    "host": "node-7",
    "machine": "another",
    "pid": 1,
    "started": "1",
    "since": 0.0,
    "nonce": "0",
    "length_s": 0.6,
}


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b'{"purpose": "\xff"}',
        b"[" * 100_000,
        json.dumps(HOLDER | {"since": 1e300}).encode(),
        json.dumps(HOLDER | {"since": float("nan")}).encode(),
        json.dumps(HOLDER | {"since": -1.0}).encode(),
        json.dumps(HOLDER | {"length_s": 1e300}).encode(),
        json.dumps(HOLDER | {"renewals": 10**400}).encode(),
    ],
)
def test_damaged_lease_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "lease-00000001.json").write_bytes(data)
    with pytest.raises(FileError, match=r"lease-00000001.json: not a lease .*delete it"):
        take(tmp_path, purpose="encode")


def test_planted_lease_of_a_high_number_binds_no_longer_than_any_other(tmp_path: Path) -> None:
    take(tmp_path, purpose="encode").close()
    elsewhere(tmp_path, 99_999_999)
    with take(tmp_path, purpose="encode") as held:
        assert held.number == 100_000_000
    with take(tmp_path, purpose="encode") as held:
        assert held.number == 100_000_001
    assert [path.name for path in tmp_path.iterdir()] == ["lease-100000001.json"]


@pytest.mark.parametrize("digits", ["9" * 20, "9" * 200])
def test_planted_lease_of_a_number_without_a_next_is_named(tmp_path: Path, digits: str) -> None:
    elsewhere(tmp_path, int(digits))
    with pytest.raises(FileError, match=rf"lease-{digits}\.json: not a lease .*delete it"):
        take(tmp_path, purpose="encode")


@pytest.mark.parametrize("name", ["lease-٣٣٣٣٣٣٣٣.json", "lease-9.json", "lease-00000009.json.bak"])
def test_other_files_beside_a_lease_are_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"whatever")
    with take(tmp_path, purpose="encode") as held:
        assert held.number == 1


def test_holder_whose_own_file_is_damaged_mends_it(tmp_path: Path) -> None:
    lost: list[str] = []
    with take(tmp_path, purpose="encode", length_s=0.3, lost=lost.append) as held:
        file = tmp_path / f"lease-{held.number:08d}.json"
        file.write_bytes(b'{"purpose": "\xff"}')
        deadline = time.monotonic() + 60
        while b"\xff" in file.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        check_lease(tmp_path, held.number)
    assert lost == []


def test_holder_survives_a_storage_that_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    failed = threading.Event()

    def fail(directory: str) -> list[str]:
        failed.set()
        raise OSError(5, "Input/output error")

    with take(tmp_path, purpose="encode", length_s=60.0, lost=lost.append) as held:
        held._stop.set()  # its thread asks every ten seconds, another one at once
        held._thread.join()
        held._stop.clear()
        held._holder = msgspec.structs.replace(held._holder, length_s=0.6)
        thread = threading.Thread(target=held._keep)
        with monkeypatch.context() as patched:
            patched.setattr(leases, "list_names", fail)
            thread.start()
            assert failed.wait(timeout=60)
        deadline = time.monotonic() + 60
        while (current := read(tmp_path)) is None or current[1].renewals == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        held._stop.set()
        thread.join()
    assert lost == []


def test_damaged_lease_of_a_successor_counts_as_one(tmp_path: Path) -> None:
    (tmp_path / "lease-00000002.json").write_bytes(b"{")
    with pytest.raises(LeaseError, match=r"taken over.*lease-00000002\.json: not a lease"):
        check_lease(tmp_path, 1)


def test_lease_in_an_object_store(s3: str) -> None:
    directory = join(s3, "run")
    with take(directory, purpose="encode"), pytest.raises(LeaseError, match="in use"):
        take(directory, purpose="encode")
    with take(directory, purpose="encode") as held:
        assert held.number == 2

"""Demands that a cluster has no room for: told of, refused or waited for, and ended by Ctrl-C."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.ray import room, waiting
from cluster.ray.room import Demand, longest_wait, workers_demand
from cluster.ray.task_pool import RayGpuPool, RayPool
from cluster.ray.waiting import Wait, await_machines
from polyprag.config import ClusterConfig
from polyprag.errors import RunError

COMMAND = str(Path(sys.executable).with_name("polyprag"))
STORE = 80 * 2**20


def test_pieces_fit_where_one_machine_has_all_that_a_piece_needs() -> None:
    nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 3.0}, {"GPU": 2.0}, {"CPU": 1.0, "GPU": 4.0}]
    # By hand: 4+3+0+1; 2+1+0+0; 1+0+0+1; 2+0+0+1; and 10 tenths of each of one GPU, 4 CPUs.
    assert Demand("worker", 1, cpus=1).room_on(nodes) == 8
    assert Demand("worker", 1, cpus=2).room_on(nodes) == 3
    assert Demand("worker", 1, cpus=1, gpus=1).room_on(nodes) == 2
    assert Demand("worker", 1, cpus=1, gpus=0.5).room_on(nodes) == 3
    assert Demand("worker", 1, cpus=0.1, gpus=0.1).room_on(nodes[:1]) == 10


def test_training_demands_the_least_number_of_workers() -> None:
    config = ClusterConfig(workers=4, cpus_per_worker=2, gpus_per_worker=0.5)
    assert str(workers_demand(config)) == (
        "4 workers with 2 CPUs and 0.5 GPU each (cluster.workers=4, cluster.cpus_per_worker=2, "
        "cluster.gpus_per_worker=0.5)"
    )
    elastic = workers_demand(ClusterConfig(workers=4, min_workers=1))
    assert elastic.number == 1 and "cluster.min_workers=1" in str(elastic)


def cluster_of(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any], managed: bool) -> None:
    made = [{"Alive": True, "Resources": node, "Labels": {}} for node in nodes]
    made.append({"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}, "Labels": {}})
    if managed:
        made[0]["Labels"] = {"ray.io/node-group": "workers"}
    monkeypatch.setattr(room, "cluster_nodes", lambda: made)
    monkeypatch.setattr("ray.experimental.internal_kv._internal_kv_get", lambda key: None)


def test_what_is_lacking_is_named_beside_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(monkeypatch, {"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}, managed=False)
    config = ClusterConfig(workers=2, gpus_per_worker=1, address="head:6379")
    with pytest.raises(RunError) as refused:
        await_machines(workers_demand(config), config)
    assert str(refused.value) == (
        "asked for 2 workers with 1 CPU and 1 GPU each (cluster.workers=2, "
        "cluster.cpus_per_worker=1, cluster.gpus_per_worker=1); the Ray cluster has room for 1: it "
        "has 6 CPUs and 1 GPU on 2 machines: ask for no more than there is, add machines, or say "
        "with cluster.wait_seconds how long to wait for machines that join"
    )
    await_machines(workers_demand(ClusterConfig(workers=6)), config)  # which is there


@pytest.mark.parametrize(
    ("settings", "managed", "seconds"),
    [
        ({}, False, 0),  # a Ray of its own
        ({"min_workers": 1}, False, 0),
        ({"address": "head:6379"}, False, 0),
        ({"address": "head:6379"}, True, float("inf")),
        ({"address": "head:6379", "min_workers": 1}, False, float("inf")),
        ({"address": "head:6379", "wait_seconds": 30}, True, 30),
        ({"wait_seconds": 30}, False, 30),
    ],
)
def test_machines_are_waited_for_where_they_may_join(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], managed: bool, seconds: float
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster_of(monkeypatch, {"CPU": 1.0}, managed=managed)
    assert longest_wait(ClusterConfig(**settings)) == seconds


def test_a_wait_is_told_of_at_once_then_ever_more_rarely_and_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wait = Wait(at_most_s=200, remedy="add some")
    told = []
    for second in range(200):
        assert wait.goes_on("no GPU", now=1000.0 + second)
        if capsys.readouterr().err:
            told.append(second)
    assert told == [0, 10, 30, 60, 120, 180]
    with pytest.raises(RunError, match=r"^no GPU after a wait of 200 s: add some$"):
        wait.goes_on("no GPU", now=1200.0)

    quiet = Wait(quiet_s=6)
    told = []
    for second in range(100):
        assert quiet.goes_on("no CPU free", now=float(second))
        if capsys.readouterr().err:
            told.append(second)
    assert told == [6, 10, 30, 60]
    assert not quiet.goes_on(None, now=100.0)
    assert capsys.readouterr().err == "going on after a wait of 100 s\n"
    assert not quiet.goes_on(None, now=200.0) and not capsys.readouterr().err


@pytest.mark.slow
def test_a_gpu_that_isn_t_there_is_refused_and_the_run_s_settings_stay(workplace: Any) -> None:
    before = sorted(path.name for path in workplace.run.iterdir())
    done = subprocess.run(
        [COMMAND, "encode", str(workplace.run), *workplace.overrides(), *GPU],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment(),
    )
    assert done.returncode == 2
    assert "error: asked for 1 worker with 1 CPU and 1 GPU (" in done.stderr
    assert "and no GPU on 1 machine" in done.stderr and "Traceback" not in done.stderr
    left = sorted(path.name for path in workplace.run.iterdir())
    assert left == sorted({*before, "lease"})  # nothing was saved


GPU = ("cluster.workers=1", "cluster.gpus_per_worker=1")


def environment() -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**outside, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "NO_COLOR": "1"}


@pytest.fixture
def head() -> Iterator[Any]:
    """A cluster of one node with one CPU, which this process has joined."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        connect=True,
        head_node_args={"num_cpus": 1, "object_store_memory": STORE},
    )
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


Encode = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def encode(workplace: Any, head: Any) -> Iterator[Encode]:
    """Starts `encode` on the cluster."""
    started = []

    def start(*settings: str) -> "subprocess.Popen[str]":
        address = f"cluster.address={head.address}"
        process = subprocess.Popen(
            [COMMAND, "encode", str(workplace.run), *workplace.overrides(), address, *settings],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment(),
            # A shell starts what it sends to the background with the signal ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def read_until(process: "subprocess.Popen[str]", text: str, *, within_s: float = 400.0) -> None:
    assert process.stderr is not None
    timer = threading.Timer(within_s, process.kill)  # which ends what it writes
    timer.start()
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if text in line:
                return
    finally:
        timer.cancel()
    raise AssertionError(f"{text!r} never came: {''.join(lines)}")


def interrupt(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=50)  # Ray's own time-out for a place is 60 s
    assert process.returncode == 130, stderr
    assert "run the same command again to continue" in stderr and "Traceback" not in stderr


@pytest.mark.slow
def test_machines_that_may_join_are_waited_for(
    encode: Encode,
    head: Any,
    workplace: Any,
    polyprag_here: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    settings = [*workplace.overrides(), f"cluster.address={head.address}", "cluster.workers=2"]
    refused = polyprag_here("encode", str(workplace.run), *settings, "cluster.wait_seconds=0")
    assert refused.returncode == 2
    assert "the Ray cluster has room for 1: it has 1 CPU" in refused.stderr

    waits = encode("cluster.workers=2", "cluster.wait_seconds=900")
    read_until(waits, "has room for 1: it has 1 CPU and no GPU on 1 machine: waiting, 0 s of 900 s")
    interrupt(waits)

    waits = encode("cluster.workers=2", "cluster.wait_seconds=900")
    read_until(waits, "waiting")
    head.add_node(num_cpus=1, object_store_memory=STORE)
    read_until(waits, "going on after a wait")
    assert waits.wait(timeout=600) == 0
    assert {line["world_size"] for line in workplace.metrics()} == {2}


@pytest.mark.slow
def test_machines_that_are_lost_are_waited_for_as_long_as_is_said(
    encode: Encode, head: Any, workplace: Any
) -> None:
    node = head.add_node(num_cpus=1, object_store_memory=STORE)
    head.wait_for_nodes()
    trains = encode("cluster.workers=2", "cluster.wait_seconds=10", "train.epochs=500")
    deadline = time.monotonic() + 300
    while not (workplace.run / "checkpoints" / "manifest.json").exists():
        assert trains.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    head.remove_node(node, allow_graceful=False)
    _, stderr = trains.communicate(timeout=300)
    assert trains.returncode == 75, stderr
    assert "the Ray cluster has room for 1: it has 1 CPU and no GPU on 1 machine" in stderr
    assert "error: asked for 2 workers" in stderr and "after a wait of " in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_the_work_of_others_is_waited_for_and_ctrl_c_leaves_nothing(
    encode: Encode, workplace: Any
) -> None:
    import ray
    from ray.util import placement_group_table
    from ray.util.placement_group import placement_group

    others = placement_group([{"CPU": 1}])
    assert others.wait(60)
    waits = encode("cluster.workers=1")
    read_until(waits, "the Ray cluster is at work, with no CPU free: waiting")
    interrupt(waits)
    deadline = time.monotonic() + 60
    while True:
        states = sorted(group["state"] for group in placement_group_table().values())
        if states == ["CREATED", "REMOVED"]:
            break
        assert time.monotonic() < deadline, states
        time.sleep(0.2)

    waits = encode("cluster.workers=1")
    read_until(waits, "with no CPU free: waiting")
    ray.util.remove_placement_group(others)
    read_until(waits, "going on after a wait")
    assert waits.wait(timeout=600) == 0
    assert len(workplace.losses()) > 0


def number(task: int) -> int:
    return task


@pytest.mark.slow
def test_tasks_say_what_they_wait_for(
    head: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.util.placement_group import placement_group

    others = placement_group([{"CPU": 1}])
    assert others.wait(60)
    monkeypatch.setattr(waiting, "_STARTS_S", 3.0)
    timer = threading.Timer(9.0, lambda: ray.util.remove_placement_group(others))
    timer.start()
    pool = RayPool(5)
    assert "asked for 5 workers; the Ray cluster has room for 1, with a CPU each" in (
        capsys.readouterr().err
    )
    assert list(pool.map(number, range(3))) == [0, 1, 2]
    timer.join()
    said = capsys.readouterr().err
    assert "asked for 1 task with 1 CPU; the Ray cluster is at work, with no CPU free" in said


@pytest.mark.slow
def test_what_is_waited_for_is_asked_of_an_autoscaler_meanwhile(head: Any) -> None:
    from ray.util import placement_group_table

    config = ClusterConfig(address=head.address, workers=2, wait_seconds=600)
    waits = threading.Thread(target=await_machines, args=(workers_demand(config), config))
    waits.start()
    deadline = time.monotonic() + 60
    while not (groups := list(placement_group_table().values())):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # Ray's autoscaler starts machines for the bundles of groups that are pending.
    assert [group["state"] for group in groups] == ["PENDING"]
    assert list(groups[0]["bundles"].values()) == [{"CPU": 1.0}, {"CPU": 1.0}]
    head.add_node(num_cpus=1, object_store_memory=STORE)
    waits.join(timeout=120)
    assert not waits.is_alive()
    while [group["state"] for group in placement_group_table().values()] != ["REMOVED"]:
        assert time.monotonic() < deadline + 60
        time.sleep(0.2)


@pytest.mark.slow
def test_a_cluster_without_a_cpu_runs_no_task(workplace: Any) -> None:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        connect=True,
        head_node_args={"num_cpus": 0, "num_gpus": 1, "object_store_memory": STORE},
    )
    try:
        config = ClusterConfig(address=cluster.address)
        with pytest.raises(RunError, match=r"asked for 1 task with 1 CPU; .* it has no CPU"):
            list(RayPool(config=config).map(number, range(3)))
        with pytest.raises(RunError, match=r"with 1 CPU and 1 GPU; .* it has no CPU and 1 GPU"):
            list(RayGpuPool(config=config).map(number, range(3)))
    finally:
        ray.shutdown()
        cluster.shutdown()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


_ON_THE_AUTOSCALER = """
import sys, time
from cluster.ray.room import longest_wait
from cluster.ray.session import ray_session
from cluster.ray.task_pool import RayPool
from polyprag.config import ClusterConfig

config = ClusterConfig(address=sys.argv[1])
with ray_session(config):
    until = time.monotonic() + 60
    while longest_wait(config) == 0:  # it writes what it manages after a few seconds
        assert time.monotonic() < until, "the autoscaler wasn't noticed"
        time.sleep(0.5)
    print(list(RayPool(config=config).map(abs, range(3))))
"""


@pytest.mark.slow
def test_an_autoscaler_is_known_and_waited_for(
    start_head: Callable[..., str], tmp_path: Path
) -> None:
    import psutil

    head_kind = "ray.head.default"
    settings = {
        "cluster_name": "made-here",
        "max_workers": 0,  # its machines are processes here that join port 6379, whoever has it
        "provider": {"type": "fake_multinode"},
        "available_node_types": {
            head_kind: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        },
        "head_node_type": head_kind,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "file_mounts_sync_continuously": False,
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "initialization_commands")},
        **{f"{who}setup_commands": [] for who in ("", "head_", "worker_")},
        **{f"{who}_start_ray_commands": [] for who in ("head", "worker")},
    }
    (tmp_path / "autoscaler.json").write_text(json.dumps(settings))
    port, open_to_all = free_port(), {"RAY_AUTH_MODE": "disabled"}
    start_head(
        f"--port={port}",
        f"--autoscaling-config={tmp_path / 'autoscaler.json'}",
        num_cpus=0,
        environment={"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", **open_to_all},
    )
    address = f"127.0.0.1:{port}"
    waits = subprocess.Popen(
        [sys.executable, "-c", _ON_THE_AUTOSCALER, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), **open_to_all},
    )
    started = [waits]
    try:
        read_until(waits, "it has no CPU and no GPU on 1 machine: waiting, 0 s so far")
        ray = str(Path(sys.executable).with_name("ray"))
        node = [ray, "start", f"--address={address}", "--num-cpus=1", "--block"]
        quiet = subprocess.DEVNULL
        started.append(
            subprocess.Popen(
                [*node, f"--object-store-memory={STORE}", "--dashboard-agent-listen-port=0"],
                env={**environment(), **open_to_all},
                stdout=quiet,
                stderr=quiet,
            )
        )
        stdout, stderr = waits.communicate(timeout=240)
        assert waits.returncode == 0 and stdout == "[0, 1, 2]\n", stderr
    finally:
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()


def test_waiting_names_nothing_of_a_cluster_that_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_of(monkeypatch, {"CPU": 1.0}, managed=False)
    monkeypatch.setattr(waiting, "notice", lambda text: pytest.fail(text))
    await_machines(Demand("task", 1, cpus=1), ClusterConfig())

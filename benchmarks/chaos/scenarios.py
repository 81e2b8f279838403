"""The scenarios of chaos.py: faults that happen to a training, and what is left of it."""

import logging
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from chaos.checks import problems
from chaos.cluster import Cluster, Encode, last_step
from chaos.proxy import Proxy
from chaos.reference import train_without_faults
from cluster.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest
from cluster.record.events import Event, read_events
from harness.examples import PASSAGES, TINY_BASE
from polyprag.augment.corpus import augment_corpus
from polyprag.config import Config
from sharding.errors import FileError
from sharding.ingest.prepare import prepare

_SETTINGS = (
    *(f"model.path={TINY_BASE}", "data.lanes=4", "data.microbatch=2"),
    *("data.max_length=128", "experts.num=8", "router.granularity=layer"),
    *("train.experts_lr=1e-3", "checkpoint.every_steps=10"),
    *("cluster.max_failures=-1", "cluster.resize_seconds=5"),
)
_EPOCHS = 6  # of 24 steps each
_EPOCHS_OF_KILLS, _EPOCHS_OF_KILLS_QUICK = 36, 3
_EPOCHS_OF_ELASTIC, _EPOCHS_OF_ELASTIC_QUICK = 45, 16
_DEATHS = ("worker", "node", "driver", "node dies")
_LIMIT_S = 1500.0  # for one scenario
_RUN_MIB = 48  # of the disk that is filled


@dataclass
class Outcome:
    """What happened to a run, and what was wrong with it in the end."""

    name: str
    faults: Counter[str] = field(default_factory=Counter)
    again_s: list[float] = field(default_factory=list)  # from a death to the next step
    repeated: int = 0
    restarts: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """A prepared run, and how it is trained."""

    directory: Path
    random: Random
    quick: bool

    def settings(self, epochs: int) -> list[str]:
        """As many passes, of 24 steps each."""
        return [*_SETTINGS, f"train.epochs={epochs}"]

    def reference(self, epochs: int, *, workers: int = 2) -> Path:
        """The run that was trained so long without faults."""
        run = self.directory / f"reference-{epochs}-{workers}"
        if not run.exists():
            train_without_faults(self.fresh(run.name), self.settings(epochs), workers=workers)
        return run

    def fresh(self, name: str) -> Path:
        """A copy of the prepared run."""
        return Path(shutil.copytree(self.directory / "prepared", self.directory / name))

    def encode(self, run: str, epochs: int, *more: str) -> Encode:
        """The command on it."""
        log = self.directory / f"{run.rpartition('/')[2]}.log"
        return Encode(run, [*self.settings(epochs), *more], log)


def make_place(directory: Path, *, seed: int, quick: bool) -> Place:
    """Prepares passages."""
    lines = PASSAGES.read_text(encoding="utf-8").splitlines(keepends=True)[:32]
    source = directory / "passages.jsonl"
    source.write_text("".join(lines), encoding="utf-8")
    prepared = directory / "prepared"
    prepare([str(source)], prepared / "corpus", partition_size=4)
    augment_corpus(prepared, Config())
    return Place(directory, Random(seed), quick)


@contextmanager
def cluster_of(nodes: int) -> Iterator[Cluster]:
    """A cluster for the length of the block."""
    cluster = Cluster(nodes)
    try:
        yield cluster
    finally:
        cluster.close()


def _wait(encode: Encode, cluster: Cluster, limit_s: float) -> None:
    """Starts a command, and waits until it is done, starting it again where it has died."""
    deadline = time.monotonic() + limit_s
    if encode.process is None:
        encode.start(cluster.address)
    while not encode.is_done(cluster.address):
        if time.monotonic() > deadline:
            encode.kill()
            raise TimeoutError(f"not done within {limit_s:.0f} s")
        time.sleep(0.1)
    if encode.statuses[-1] != 0:
        raise RuntimeError(encode.said()[-2000:])


def _groups(run: Path | str) -> list[Event]:
    """The beginnings of groups of workers, oldest first."""
    return [event for event in read_events(str(run)) if event.kind == "training"]


def _trains_again(run: Path, since: float, groups: int) -> bool:
    """Whether a group of workers that began after a moment has made a step."""
    found = _groups(run)
    return (
        len(found) > groups
        and found[-1].time > since
        and last_step(run) > (found[-1].step or 0)
        and (run / "logs" / "metrics.jsonl").stat().st_mtime > found[-1].time
    )


def endure(
    outcome: Outcome,
    run: Path,
    encode: Encode,
    cluster: Cluster,
    faults: Sequence[Callable[[], str | None]],
    *,
    random: Random,
) -> None:
    """Trains a run to its end while faults happen to it, each once training goes on again.

    Args:
        outcome: is added to.
        run: the run, on this machine.
        encode: its command.
        cluster: where it runs.
        faults: in turn; each returns its name, or None where it can't happen now.
        random: decides how long after the first step each waits.
    """
    deadline = time.monotonic() + _LIMIT_S
    left = list(faults)
    encode.start(cluster.address)
    groups, since, next_at, name = 0, 0.0, None, None
    while not encode.is_done(cluster.address):
        time.sleep(0.05)
        if time.monotonic() > deadline:
            encode.kill()
            raise TimeoutError(f"not done within {_LIMIT_S:.0f} s, {len(left)} faults left")
        if next_at is None:
            if _trains_again(run, since, groups):
                if name in _DEATHS:
                    outcome.again_s.append(time.time() - since)
                next_at = time.monotonic() + random.uniform(0.1, 2.0)
        elif left and time.monotonic() >= next_at:
            groups = len(_groups(run))
            since = time.time()
            name = left[0]()
            if name is not None:
                left.pop(0)
                outcome.faults[name] += 1
                next_at = None
    if encode.statuses[-1] != 0:
        outcome.problems.append(f"ended with {encode.statuses[-1]}: {encode.said()[-500:]}")
    if left:
        outcome.problems.append(f"was done before {len(left)} more faults could happen")
    elif next_at is None:
        outcome.problems.append(f"was done before it went on after the last fault, {name}")


def kills(place: Place) -> Outcome:
    """Workers, nodes and drivers die; there are always two workers."""
    outcome, run = Outcome("kills"), place.fresh("kills")
    epochs = _EPOCHS_OF_KILLS_QUICK if place.quick else _EPOCHS_OF_KILLS
    encode = place.encode(str(run), epochs, "cluster.workers=2")
    random = place.random
    with cluster_of(2) as cluster:

        def worker() -> str | None:
            return "worker" if cluster.kill_worker(random) else None

        def node() -> str:
            cluster.kill_node(random)
            cluster.add_node()
            return "node"

        def driver() -> str:
            encode.kill()
            return "driver"

        if place.quick:
            chosen = [worker, node]
        else:
            chosen = [worker] * 11 + [node] * 8 + [driver] * 6
            random.shuffle(chosen)
        endure(outcome, run, encode, cluster, chosen, random=random)
    return _judged(outcome, place, run, epochs=epochs)


def elastic(place: Place) -> Outcome:
    """Nodes come and go; between one and three workers train."""
    outcome, run = Outcome("elastic"), place.fresh("elastic")
    epochs = _EPOCHS_OF_ELASTIC_QUICK if place.quick else _EPOCHS_OF_ELASTIC
    encode = place.encode(str(run), epochs, "cluster.workers=3", "cluster.min_workers=1")
    with cluster_of(2) as cluster:

        def died() -> str:
            cluster.kill_node(place.random)
            return "node dies"

        def joins() -> str:
            cluster.add_node()
            return "node joins"

        def drained() -> str:
            cluster.drain_node(place.random, seconds=10)
            return "node is drained"

        chosen = [joins, died, drained, joins, joins, died, joins]
        if place.quick:
            chosen = [died, joins]
        endure(outcome, run, encode, cluster, chosen, random=place.random)
    sizes = sorted({event.world_size or 0 for event in _groups(run)})
    if len(sizes) < 2:
        outcome.problems.append(f"the number of workers was always {sizes}")
    return _judged(outcome, place, run, epochs=epochs, exact=False)


def power(place: Place) -> Outcome:
    """All of the cluster dies at once, and another one goes on."""
    outcome, run = Outcome("power"), place.fresh("power")
    encode = place.encode(str(run), _EPOCHS, "cluster.workers=2")
    for at in (25, 55):
        with cluster_of(2) as cluster:
            encode.start(cluster.address)
            _until(lambda at=at: last_step(run) >= at)
            cluster.kill_all()
            outcome.faults["all machines"] += 1
        encode.ended()
        encode.process = None
    with cluster_of(2) as cluster:
        _wait(encode, cluster, _LIMIT_S)
    return _judged(outcome, place, run)


def disk(place: Place) -> Outcome:
    """The disk that the run is on fills up; once there is room, the same command goes on."""
    outcome, run = Outcome("disk"), place.directory / "disk"
    run.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_RUN_MIB}m", "tmpfs", str(run)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        outcome.problems.append("not tried: a small disk can't be mounted without being root")
        return outcome
    try:
        shutil.copytree(place.directory / "prepared", run, dirs_exist_ok=True)
        encode = place.encode(str(run), _EPOCHS, "cluster.workers=2")
        with cluster_of(2) as cluster:
            encode.start(cluster.address)
            _until(lambda: last_step(run) >= 25)
            room = shutil.disk_usage(run).free
            (run / "filler").write_bytes(bytes(room))
            outcome.faults["full disk"] += 1
            _until(lambda: encode.ended() is not None)
            if encode.statuses[-1] != 2 or "o space left" not in encode.said():
                outcome.problems.append(f"the full disk wasn't told: {encode.said()[-500:]}")
            (run / "filler").unlink()
            _wait(encode, cluster, _LIMIT_S)
        return _judged(outcome, place, run)
    finally:
        subprocess.run(["umount", str(run)], check=False)


def store(place: Place) -> Outcome:
    """The run is on S3, which can't be reached for a while."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    outcome, run = Outcome("store"), place.directory / "store"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Proxy(*server.get_host_and_port())
    try:
        with s3_environment(f"http://127.0.0.1:{proxy.port}"), cluster_of(2) as cluster:
            import s3fs

            storage = s3fs.S3FileSystem(skip_instance_cache=True)
            storage.mkdir("chaos")
            storage.put(str(place.directory / "prepared"), "chaos/run", recursive=True)
            encode = place.encode("s3://chaos/run", _EPOCHS, "cluster.workers=2")
            encode.start(cluster.address)
            for at in (20, 60):
                _until(lambda at=at: _saved_step("s3://chaos/run") >= at)
                proxy.cut()
                outcome.faults["store out of reach"] += 1
                time.sleep(30)
                proxy.mend()
            _wait(encode, cluster, _LIMIT_S)
            storage.invalidate_cache()
            storage.get("chaos/run", str(run), recursive=True)
    finally:
        proxy.close()
        server.stop()
    return _judged(outcome, place, run)


def damage(place: Place) -> Outcome:
    """The driver dies, and files of the newest checkpoint are cut short."""
    outcome, run = Outcome("damage"), place.fresh("damage")
    encode = place.encode(str(run), _EPOCHS, "cluster.workers=2")
    directory = run / "checkpoints"
    for at, what in ((25, "experts"), (45, "rows"), (65, "manifest")):
        with cluster_of(2) as cluster:
            encode.start(cluster.address)
            _until(lambda at=at: last_step(run) >= at)
            cluster.kill_all()
        encode.ended()
        encode.process = None
        manifest = CheckpointManifest.load(str(directory))
        assert manifest is not None
        newest = max(manifest.rows.values(), key=lambda entry: entry.step)
        names = {"experts": manifest.experts.file, "rows": newest.file, "manifest": MANIFEST_NAME}
        file = directory / names[what]
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        outcome.faults[f"{what} cut short"] += 1
    with cluster_of(2) as cluster:
        _wait(encode, cluster, _LIMIT_S)
    recovered = sum(event.kind == "recovered" for event in read_events(str(run)))
    if recovered != 3:
        outcome.problems.append(f"it went back to an earlier checkpoint {recovered} times, not 3")
    return _judged(outcome, place, run)


def _until(is_so: Callable[[], bool], *, limit_s: float = 300.0) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"what was waited for didn't happen within {limit_s:.0f} s")
        time.sleep(0.1)


def _saved_step(run: str) -> int:
    try:
        manifest = CheckpointManifest.load(f"{run}/checkpoints")
    except FileError:
        return 0
    return manifest.step if manifest else 0


@contextmanager
def s3_environment(endpoint: str) -> Iterator[None]:
    """Has every process that is started in the block use an S3 server on this machine."""
    settings = {
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _judged(
    outcome: Outcome, place: Place, run: Path, *, epochs: int = _EPOCHS, exact: bool = True
) -> Outcome:
    """Adds what the events tell, and what is wrong."""
    groups = _groups(run)
    outcome.restarts = len(groups) - 1
    outcome.repeated = sum(event.repeated or 0 for event in groups)
    # How often a row is updated, all that is compared then, is the same for any number of workers.
    counts_only = place.quick and not exact
    reference = place.reference(epochs, workers=1 if counts_only else 2)
    other = None if exact or counts_only else place.reference(epochs, workers=1)
    outcome.problems += problems(run, reference, exact=exact, other=other)
    return outcome


SCENARIOS = {f.__name__: f for f in (kills, elastic, power, disk, store, damage)}

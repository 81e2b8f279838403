"""`encode` on a Ray cluster that runs already: two nodes, joined by `cluster.address`."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyprag.encoding.reader import Encoding
from sharding.corpus.manifest import CorpusManifest

COMMAND = str(Path(sys.executable).with_name("polyprag"))


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes, each with a CPU for one worker; for all tests here."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20},
    )
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def polyprag(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "NO_COLOR": "1", **env},
        check=False,
    )


def encode(place: Any, *more: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return polyprag("encode", str(place.run), *place.overrides(), *more, env=env)


@pytest.mark.slow
def test_a_joined_cluster_prepares_and_augments_the_same_bytes(
    workplace: Any, tmp_path: Path, two_nodes: str
) -> None:
    run, source = tmp_path / "there", workplace.base.parent / "passages.jsonl"
    address = f"cluster.address={two_nodes}"
    done = polyprag("prepare", str(run), str(source), "data.partition_size=2", address, env={})
    assert done.returncode == 0, done.stderr
    done = polyprag("augment", str(run), "augment.num_qas=3", env={"RAY_ADDRESS": two_nodes})
    assert done.returncode == 0, done.stderr
    there, here = (CorpusManifest.load(place / "corpus") for place in (run, workplace.run))
    assert there.partitions == here.partitions


@pytest.mark.slow
def test_workers_on_two_nodes_of_a_joined_cluster_train_like_one_process(
    workplace: Any, straight_run: Any, two_nodes: str
) -> None:
    done = encode(workplace, "cluster.workers=2", f"cluster.address={two_nodes}", env={})
    assert done.returncode == 0, done.stderr
    logs = [(workplace.run / "logs" / f"worker-{rank}.log").read_text() for rank in (0, 1)]
    nodes = {re.search(r"Ray node (\w+)", log)[1] for log in logs}  # type: ignore[index]
    assert len(nodes) == 2
    alone = straight_run(world_size=1)
    np.testing.assert_allclose(workplace.losses(), alone.losses(), atol=5e-4)
    assert Encoding.load(workplace.run).manifest.trained.steps == len(workplace.losses())

    # A job finds its cluster in RAY_ADDRESS; the run goes on from its checkpoint there.
    more = encode(workplace, "cluster.workers=1", "train.epochs=2", env={"RAY_ADDRESS": two_nodes})
    assert more.returncode == 0, more.stderr
    assert [line["step"] for line in workplace.metrics()] == list(
        range(1, 2 * len(alone.losses()) + 1)
    )
    assert workplace.metrics()[-1]["world_size"] == 1


def test_an_address_where_no_cluster_answers_is_named(workplace: Any) -> None:
    refused = encode(workplace, "cluster.address=127.0.0.1:1", env={})
    assert refused.returncode == 2
    assert "127.0.0.1:1" in refused.stderr
    assert "ray start --head" in refused.stderr
    assert "Traceback" not in refused.stderr

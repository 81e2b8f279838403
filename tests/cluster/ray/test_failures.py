"""A worker's failure on a real Ray: an error that comes again ends it at once."""

import os
import subprocess
import sys
from typing import Any

import pytest

from cluster.checkpoints.manifest import CheckpointManifest

pytestmark = pytest.mark.slow
_DRIVER = """
import sys

import torch

import cluster.ray.trainer as trainer
from cluster.ray.session import ray_session
from cluster.plan.steps import plan_encoding
from polyprag.config.files import load_config
from polyprag.errors import PolypragError
from sharding.corpus.manifest import CorpusManifest

run, *overrides = sys.argv[1:]
config = load_config([], overrides)
plan = plan_encoding(CorpusManifest.load(run + "/corpus"), config, corpus_url=run)


def of_code(settings):
    open(run + "/of code", "a").write("x")
    torch.ones(2, 3) @ torch.ones(2, 3)


def of_the_network(settings):
    open(run + "/of the network", "a").write("x")
    raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")


with ray_session(config.cluster):
    for function in (of_code, of_the_network):
        trainer.train_on_worker = function
        try:
            trainer.train_on_ray(run, config, plan, lease=None)
        except PolypragError as error:
            print(error.exit_status, type(error).__name__, error)
"""


def test_a_bug_ends_at_once_and_a_lost_connection_is_tried_again(workplace: Any) -> None:
    overrides = workplace.overrides(cluster__workers=1, cluster__max_failures=2)
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(workplace.run), *overrides],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bug, lost = done.stdout.strip().splitlines()[-2:]
    assert bug.startswith("70 WorkerBugError") and "2x3" in bug
    assert (workplace.run / "of code").read_text() == "x"
    assert lost.startswith("75 WorkersFailedError") and "cluster.max_failures=2" in lost
    assert (workplace.run / "of the network").read_text() == "xxx"


# A rate that no setting allows any more: within bounds a model this small stays finite.
_DIVERGES = """
import sys

import cluster.ray.trainer as trainer
from cluster.ray.session import ray_session
from cluster.plan.steps import plan_encoding
from polyprag.config.files import load_config
from polyprag.errors import PolypragError
from sharding.corpus.manifest import CorpusManifest

run, *overrides = sys.argv[1:]
config = load_config([], overrides)
object.__setattr__(config.train, "experts_lr", 1e25)
plan = plan_encoding(CorpusManifest.load(run + "/corpus"), config, corpus_url=run)
with ray_session(config.cluster):
    try:
        trainer.train_on_ray(run, config, plan, lease=None)
    except PolypragError as error:
        print(error.exit_status, error)
"""


def test_a_training_that_diverges_ends_with_status_2_and_keeps_its_checkpoint(
    workplace: Any,
) -> None:
    overrides = workplace.overrides(checkpoint__every_steps=1, cluster__workers=2)
    done = subprocess.run(
        [sys.executable, "-c", _DIVERGES, str(workplace.run), *overrides],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "NO_COLOR": "1"},
        check=False,
    )
    told = done.stdout.strip().splitlines()[-1:]
    assert told and told[0].startswith("2 "), done.stderr
    assert "isn't taken, and has changed nothing" in told[0]
    assert "lower train.experts_lr (1e+25 now)" in told[0]
    checkpoint = CheckpointManifest.load(str(workplace.run / "checkpoints"))
    assert checkpoint is None or f"step {checkpoint.step + 1} " in told[0]

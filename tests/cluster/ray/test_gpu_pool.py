"""Work on Ray actors with a GPU each, on a node that says that it has two."""

import os
import time
from collections.abc import Iterator

import pytest
import ray

from cluster.ray.task_pool import RayGpuPool
from polyprag.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def two_gpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def where(task: int) -> tuple[int, int, str]:
    return task, os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]


def where_slowly(task: int) -> tuple[int, int, str]:
    """Takes its time: on a busy machine the second actor comes when the first has begun."""
    time.sleep(1.5)
    return where(task)


def dies_once(path: str) -> str:
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os._exit(1)
    return "lived"


def refuse(task: int) -> None:
    raise ConfigError(f"task {task} is refused")


def test_each_actor_has_a_gpu_and_keeps_its_process() -> None:
    made = list(RayGpuPool().map(where_slowly, range(12)))
    assert [task for task, _, _ in made] == list(range(12))
    assert len({pid for _, pid, _ in made}) == 2
    assert {gpu for _, _, gpu in made} == {"0", "1"}


def test_a_task_whose_actor_died_is_run_again(tmp_path: object) -> None:
    assert list(RayGpuPool(1).map(dies_once, [f"{tmp_path}/died"])) == ["lived"]


def test_errors_are_those_of_the_task_and_the_gpus_are_free_again() -> None:
    for _ in range(3):
        with pytest.raises(ConfigError, match="task 0 is refused"):
            list(RayGpuPool(2).map(refuse, range(4)))
    assert len(list(RayGpuPool(2).map(where, range(2)))) == 2

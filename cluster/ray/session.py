"""Starting Ray on this machine, or joining a cluster that runs already."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.ray.startup import join_errors, prepare_token, ray_directory, start_errors
from polyprag.config import ClusterConfig, cluster_address
from polyprag.threads import WAIT_POLICY

# A local object store holds nothing but the workers' settings.
_OBJECT_STORE_BYTES = 100 * 2**20

# glibc gives large pieces of memory back when they are freed, so that each step asks the kernel for
# all of its activations and logits anew, 4 KiB at a time. Workers on CPUs keep up to 4 GiB.
_MALLOC = "GLIBC_TUNABLES"
_KEEPS_MEMORY = (
    "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296:glibc.malloc.hugetlb=1"
)


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Connects to Ray for the length of the block.

    Args:
        config: `address` joins a cluster; without one Ray starts here, with enough logical CPUs
            for the workers however few cores there are, and stops with the block.

    Raises:
        RunError: nothing answers at the address, or Ray can't be started here.
        RayStartError: it wasn't there in time.
    """
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if ray.is_initialized():
        yield
        return
    address = cluster_address(config)
    # It warns of a token that is as it should be; with several commands a run, that is noise.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    if address is None:
        directory = ray_directory()
        prepare_token()
        needed = config.workers * config.cpus_per_worker + 1
        with _sigterm_as_before(), start_errors(directory):
            ray.init(
                address="local",
                num_cpus=max(needed, os.cpu_count() or 1),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _temp_dir=directory,
                # Ray would start a process for each CPU, which workers, in an environment of their
                # own, don't take: dozens where a container has a few of a machine's cores.
                _system_config={"prestart_worker_first_driver": False},
            )
    else:
        with _sigterm_as_before(), join_errors(address):
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _sigterm_as_before() -> Iterator[None]:
    """Gives SIGTERM back to who had it: Ray's handling ends the process without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:
        if ended.code == signal.SIGTERM:  # it came while Ray started
            signal.signal(signal.SIGTERM, before)
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def cluster_nodes() -> list[dict[str, Any]]:
    """Returns the nodes that the Ray cluster has or had, as Ray describes them."""
    import ray

    untyped: Any = ray  # that function has no types
    nodes: list[dict[str, Any]] = untyped.nodes()
    return nodes


def cluster_resource(name: str) -> int:
    """Returns how many of a resource, such as `CPU` or `GPU`, the Ray cluster has now."""
    import ray

    untyped: Any = ray  # that function has no types
    resources: dict[str, float] = untyped.cluster_resources()
    return int(resources.get(name, 0))


def worker_environment(config: ClusterConfig) -> dict[str, str]:
    """Returns the environment variables that every worker starts with."""
    environment = {
        "OMP_NUM_THREADS": str(config.cpus_per_worker),
        WAIT_POLICY: os.environ.get(WAIT_POLICY, "PASSIVE"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    if config.gpus_per_worker == 0:
        environment["DS_ACCELERATOR"] = "cpu"
        environment[_MALLOC] = os.environ.get(_MALLOC, _KEEPS_MEMORY)
    if cluster_address(config) is None:
        environment["PATH"] = os.environ.get("PATH", "")
    return environment

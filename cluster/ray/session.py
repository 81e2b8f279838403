"""Starting Ray on this machine, or joining a cluster that runs already."""

import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyprag.config import ClusterConfig, cluster_address
from polyprag.errors import RunError

# A local object store holds nothing but the workers' settings.
_OBJECT_STORE_BYTES = 100 * 2**20
_KNOCK_SECONDS = 20.0


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[None]:
    """Connects to Ray for the length of the block.

    Args:
        config: `address` joins a cluster; without one Ray starts here, with enough logical CPUs
            for the workers however few cores there are, and stops with the block.

    Raises:
        RunError: nothing answers at the address.
    """
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if ray.is_initialized():
        yield
        return
    address = cluster_address(config)
    if address is None:
        needed = config.workers * config.cpus_per_worker + 1
        ray.init(
            address="local",
            num_cpus=max(needed, os.cpu_count() or 1),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
        _tighten_token()
    else:
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(
                f"cluster.address={address!r}: no Ray cluster answers there ({error}); start one "
                "(`ray start --head`), give its token where it has one (RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN_PATH), or leave cluster.address and RAY_ADDRESS unset to start "
                "one here"
            ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's ends the process without a word
    try:
        yield
    finally:
        ray.shutdown()


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


def _knock(address: str) -> None:
    """Raises `OSError` when nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _tighten_token() -> None:
    """Takes others' access to Ray's authentication token away; Ray writes it world-readable."""
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        token.chmod(0o600)


def worker_environment(config: ClusterConfig) -> dict[str, str]:
    """Returns the environment variables that every worker starts with."""
    environment = {
        "OMP_NUM_THREADS": str(config.cpus_per_worker),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    if config.gpus_per_worker == 0:
        environment["DS_ACCELERATOR"] = "cpu"
    if cluster_address(config) is None:
        environment["PATH"] = os.environ.get("PATH", "")
    return environment

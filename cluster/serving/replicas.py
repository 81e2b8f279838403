"""The app of `polyprag serve` as replicas behind Ray Serve's proxies, each with its own model."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cluster.ray.session import ray_session
from polyprag.config import Config
from polyprag.errors import RunError
from polyprag.serving.limits import RequestLimits

APP = "polyprag"
_LOOKS_SECONDS = 0.5
_ENDING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ServedRun:
    """What a replica serves.

    Attributes:
        run: RUN; every node reads it, so that on several it is a URL or on a shared file system.
        config: of the run.
        name: of the model, as clients name it.
        limits: of each replica.
        parallel: continuations that a replica says at a time; None: `generation.batch_size`.
        key_digests: of the keys that clients may use; none: nobody is asked.
        hosts: names by which the server may be addressed; None: any.
    """

    run: str
    config: Config
    name: str
    limits: RequestLimits
    parallel: int | None
    key_digests: tuple[bytes, ...]
    hosts: tuple[str, ...] | None


def serve_replicas(
    served: ServedRun,
    *,
    replicas: int,
    host: str,
    port: int,
    on_started: Callable[[str], None],
    ended: Callable[[], bool],
) -> None:
    """Serves with replicas until it is told to end, and then answers what was accepted.

    Args:
        served: what.
        replicas: how many, each with `cluster.cpus_per_worker` and `cluster.gpus_per_worker`.
        host: where each node's proxy listens.
        port: on which.
        on_started: is told the URL, once requests are taken.
        ended: is asked now and then.

    Raises:
        RunError: a replica can't be started, or there is no Ray.
    """
    cluster = replace(served.config.cluster, workers=replicas)
    with ray_session(cluster):
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(
            proxy_location="EveryNode",
            http_options={"host": host, "port": port, "request_timeout_s": served.limits.timeout_s},
        )
        try:
            try:
                serve.run(_application(served, replicas), name=APP, route_prefix="/")
            except RuntimeError as error:
                raise RunError(f"the replicas can't be started: {error}") from error
            on_started(f"http://{host}:{port}")
            while not ended():
                time.sleep(_LOOKS_SECONDS)
        except KeyboardInterrupt:
            pass  # is told to end
        finally:
            # Waits for what was accepted, and not for a Ray that was ended before it.
            ending = threading.Thread(target=_end, name="ending", daemon=True)
            ending.start()
            ending.join(served.limits.timeout_s + _ENDING_SECONDS)


def _end() -> None:
    from ray import serve

    serve.delete(APP)
    serve.shutdown()  # type: ignore[no-untyped-call]


def _application(served: ServedRun, replicas: int) -> Any:
    """Returns the deployment, bound to what it serves."""
    from ray import serve

    cluster = served.config.cluster
    threads = {"OMP_NUM_THREADS": str(cluster.cpus_per_worker)}

    @serve.deployment(
        name="Replica",
        num_replicas=replicas,
        # Each has a queue of its own, and tells clients itself when it is full.
        max_ongoing_requests=4 * served.limits.max_waiting,
        graceful_shutdown_timeout_s=served.limits.timeout_s,
        ray_actor_options={
            "num_cpus": cluster.cpus_per_worker,
            "num_gpus": cluster.gpus_per_worker,
            "runtime_env": {"env_vars": threads},
        },
    )
    @serve.ingress()
    class Replica:
        """Loads the run where it was placed."""

        def __init__(self, served: ServedRun) -> None:
            from polyprag.answering.engine import Engine
            from polyprag.serving.service import Service

            engine = Engine.open(served.run, served.config, most=served.parallel)
            self._served = served
            self._service = Service(
                engine, run_dir=served.run, name=served.name, limits=served.limits
            )

        def __serve_build_asgi_app__(self) -> Any:
            from polyprag.serving.app import make_app

            own = self._served
            return make_app(self._service, key_digests=own.key_digests, hosts=own.hosts)

    return Replica.bind(served)  # type: ignore[attr-defined] # of the decorator

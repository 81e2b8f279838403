"""What a worker sets is on the page that Ray has for Prometheus, without Ray's dashboard too."""

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from cluster.record.metrics import StepMetrics

pytestmark = pytest.mark.slow


@pytest.fixture
def page() -> Iterator[str]:
    """The address of the metrics of a Ray that was started as `ray_session` does."""
    import ray

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _metrics_export_port=port,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        ray.shutdown()


def read(page: str) -> dict[str, float]:
    """The page's own metrics by name and rank; `{}` until there is a page."""
    try:
        with urllib.request.urlopen(page, timeout=10) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return {}
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"ray_(polyprag_\w+)\{(.*)\} (\S+)", line)
        if match and "_bucket" not in match[1]:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            assert (labels["run_id"], labels["run"]) == ("12ab34cd", "s3://bucket/wiki")
            found[f"{match[1]} {labels.get('rank', '')}".strip()] = float(match[3])
    return found


def test_page_shows_what_workers_write(page: str, step_metrics: Callable[..., StepMetrics]) -> None:
    import ray

    @ray.remote(num_cpus=1)
    class Worker:
        def __init__(self, rank: int) -> None:
            from cluster.record.sinks.prometheus import PrometheusSink

            self._sink = PrometheusSink(
                "s3://bucket/wiki", run_id="12ab34cd", rank=rank, restarts=3
            )

        def write(self, steps: list[StepMetrics]) -> None:
            for metrics in steps:
                self._sink.write(metrics)

    first = step_metrics(
        1, data_wait=0.25, rows_wait=0.5, rows_loaded_bytes=1000, rows_saved_bytes=0
    )
    second = step_metrics(
        2,
        epoch=1,
        loss=0.75,
        seconds=1.5,
        checkpoint_wait=2.0,
        rows_loaded_bytes=24,
        rows_saved_bytes=2**40,
        checkpoint_step=1,
        checkpoint_seconds=4.5,
        mfu=0.5,
    )
    workers = [Worker.remote(rank) for rank in (0, 1)]  # type: ignore[attr-defined]
    ray.get([workers[0].write.remote([first, second]), workers[1].write.remote([first])])
    expected = {
        "polyprag_worker_step 0": 2,
        "polyprag_worker_step 1": 1,
        "polyprag_step": 2,
        "polyprag_epoch": 1,
        "polyprag_loss": 0.75,
        "polyprag_world_size": 2,
        "polyprag_mfu": 0.5,
        "polyprag_checkpoint_step": 1,
        "polyprag_checkpoint_seconds": 4.5,
        "polyprag_restarts": 3,
        "polyprag_examples_total": 8,
        "polyprag_tokens_total": 200,
        "polyprag_data_wait_seconds_total": 0.25,
        "polyprag_rows_wait_seconds_total": 0.5,
        "polyprag_checkpoint_wait_seconds_total": 2,
        "polyprag_rows_loaded_bytes_total": 1024,
        "polyprag_rows_saved_bytes_total": 2**40,
        "polyprag_step_seconds_count": 2,
    }
    deadline = time.monotonic() + 90
    while expected.keys() - read(page).keys() and time.monotonic() < deadline:
        time.sleep(0.5)
    found = read(page)
    del found["polyprag_step_seconds_sum"]  # Ray sends histograms as counts of buckets
    assert found == expected

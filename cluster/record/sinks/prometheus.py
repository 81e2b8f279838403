"""Metrics for Prometheus, on the page that Ray has for each machine of a cluster.

Setting a value costs a few microseconds; a worker's are sent to its machine's page every ten
seconds, and leave it soon after the worker has ended.
"""

from cluster.record.metrics import StepMetrics

_LABELS = ("run_id", "run")
_STEP_SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
_GAUGES = {
    "step": "global steps done",
    "epoch": "passes over the corpus before this one",
    "loss": "mean over the last step's tokens, in nats",
    "world_size": "workers that took part in the last step",
    "mfu": "model-FLOP utilisation of the last step, 0 to 1",
    "checkpoint_step": "global steps behind the last durable checkpoint",
    "checkpoint_seconds": "from that checkpoint's beginning until it was durable",
}
_COUNTERS = {
    "examples": ("examples", "examples trained on"),
    "tokens": ("tokens", "tokens trained on, padding excluded"),
    "data_wait": ("data_wait_seconds", "that the slowest worker waited for examples"),
    "rows_wait": ("rows_wait_seconds", "that the slowest worker waited for routing rows"),
    "checkpoint_wait": ("checkpoint_wait_seconds", "that training stood still for checkpoints"),
    "rows_loaded_bytes": ("rows_loaded_bytes", "of rows and moments that came into memory"),
    "rows_saved_bytes": ("rows_saved_bytes", "of rows and moments that went to files"),
}


class PrometheusSink:
    """Sets one worker's metrics by `ray.util.metrics`, so it works in a process of Ray's only.

    Every worker tells how far it is; the first one tells what concerns them all.
    """

    def __init__(self, run_dir: str, *, run_id: str, rank: int, restarts: int = 0) -> None:
        """Makes the metrics.

        Args:
            run_dir: a path or URL; the label `run`.
            run_id: of the run.
            rank: of this worker.
            restarts: times that the workers were started again since the command began.
        """
        from ray.util.metrics import Counter, Gauge, Histogram

        labels = {"run_id": run_id, "run": run_dir}
        self._worker_step = Gauge("polyprag_worker_step", "steps done", (*_LABELS, "rank"))
        self._worker_step.set_default_tags({**labels, "rank": str(rank)})
        self._is_first = rank == 0
        if not self._is_first:
            return
        self._gauges = {n: Gauge(f"polyprag_{n}", text, _LABELS) for n, text in _GAUGES.items()}
        self._counters = {
            field: Counter(f"polyprag_{name}", text, _LABELS)
            for field, (name, text) in _COUNTERS.items()
        }
        self._seconds = Histogram(
            "polyprag_step_seconds", "wall time of a global step", _STEP_SECONDS, _LABELS
        )
        restarted = Gauge("polyprag_restarts", "of the workers since the command began", _LABELS)
        for metric in (*self._gauges.values(), *self._counters.values(), self._seconds, restarted):
            metric.set_default_tags(labels)
        restarted.set(restarts)

    def write(self, metrics: StepMetrics) -> None:
        """Sets what a step has changed."""
        self._worker_step.set(metrics.step)
        if not self._is_first:
            return
        for name, gauge in self._gauges.items():
            gauge.set(getattr(metrics, name))
        for name, counter in self._counters.items():
            value = getattr(metrics, name)
            if value > 0:  # Ray refuses to add nothing
                counter.inc(value)
        self._seconds.observe(metrics.seconds)

    def flush(self) -> None:
        """Does nothing: Ray sends by itself."""

    def close(self, *, failed: bool = False) -> None:
        """Does nothing: the metrics end with the process."""

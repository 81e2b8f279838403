"""What a server counts, as Prometheus reads it at `/metrics`."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server; several may live in a process."""

    def __init__(self) -> None:
        """Starts at zero."""
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "polyprag_requests",
            "Requests that ended, by route, mode and HTTP status",
            ("route", "mode", "status"),
            registry=registry,
        )
        self.cancelled = Counter(
            "polyprag_requests_cancelled", "Requests whose client went away", registry=registry
        )
        self.tokens = Counter(
            "polyprag_tokens", "Tokens read and said", ("kind",), registry=registry
        )
        self.duration = Histogram(
            "polyprag_request_seconds",
            "From a request's acceptance to its end",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "polyprag_time_to_first_token_seconds",
            "From a request's acceptance to its first token",
            buckets=_SECONDS,
            registry=registry,
        )
        self.per_token = Histogram(
            "polyprag_time_per_token_seconds",
            "Between two tokens of a continuation, its mean",
            buckets=_TOKEN_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "polyprag_batch_size",
            "Continuations that are said at a time, when a request ends",
            buckets=_BATCH,
            registry=registry,
        )
        self.reloads = Counter(
            "polyprag_reloads",
            "Times that the run was loaded anew",
            ("outcome",),
            registry=registry,
        )

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Adds a gauge that is asked when it is read."""
        Gauge(f"polyprag_{name}", what, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """Returns everything in Prometheus's text format."""
        return generate_latest(self._registry)

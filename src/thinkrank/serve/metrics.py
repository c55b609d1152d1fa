"""What the server counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Count requests and what they cost; each app has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests answered.", "route", "status")
        self.seconds = Histogram(
            "thinkrank_request_seconds", "Time to answer.", ["route"], buckets=_BUCKETS, registry=self.registry
        )
        self.waited = Histogram(
            "thinkrank_waited_seconds", "Time in the queue.", buckets=_BUCKETS, registry=self.registry
        )
        self.stage_seconds = self._counter("stage_seconds", "Time that stages took.", "stage")
        self.stage_tokens = self._counter("stage_tokens", "Tokens that stages wrote.", "stage")
        self.degraded = self._counter("degraded", "Answers from which a budget left something out.")
        self.cancelled = self._counter("cancelled", "Requests given up because nobody waited.")
        self.refused = self._counter("refused", "Requests refused.", "why")
        self.reloads = self._counter("reloads", "Runs loaded anew.", "result")

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"thinkrank_{name}", about, labels, registry=self.registry)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Show a number as it is when it is asked for."""
        Gauge(f"thinkrank_{name}", about, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Write everything in Prometheus' format."""
        return generate_latest(self.registry)

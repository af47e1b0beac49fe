"""What the server counts of itself, for Prometheus.

Knows names and units of metrics; knows nothing of HTTP or of generation.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class Metrics:
    """Counters in a registry of their own, so that two servers in one process do not mix."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        """`waiting` says how many requests wait for their turn now."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "engine_requests",
            "Requests answered, by route and HTTP status; 499 is a client that went away.",
            ("endpoint", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "engine_request_seconds",
            "From a request's arrival to the last byte of its answer.",
            ("endpoint",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._first = self._histogram("engine_first_token_seconds", "From arrival to first token.")
        self._prompt = self._counter("engine_prompt_tokens", "Tokens of the prompts taken on.")
        self._made = self._counter("engine_completion_tokens", "Tokens generated.")
        self._abandoned = self._counter("engine_requests_abandoned", "Clients that went away.")
        gauge = Gauge("engine_requests_waiting", "Requests that wait now.", registry=self._registry)
        gauge.set_function(waiting)

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def count_tokens(self, prompt: int, completion: int) -> None:
        """A generation has ended, whole or not."""
        self._prompt.inc(prompt)
        self._made.inc(completion)

    def note_first_token(self, seconds: float) -> None:
        """The first token came `seconds` after its request."""
        self._first.observe(seconds)

    def count_abandoned(self) -> None:
        """A client went away before its answer was complete."""
        self._abandoned.inc()

    def exposition(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=SECONDS, registry=self._registry)

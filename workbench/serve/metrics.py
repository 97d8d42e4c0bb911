"""What `/metrics` shows, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from workbench.serve.engine import Engine

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of one server."""

    def __init__(self, engine: Engine) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("workbench_requests", "Requests", ("route", "status"), registry=registry)
        self.tokens = Counter("workbench_tokens", "Tokens read and written", ("model", "kind"), registry=registry)
        self.cancelled = Counter("workbench_cancelled", "Answers whose client went away", registry=registry)
        self.first_token = Histogram(
            "workbench_first_token_seconds", "Until the first text of an answer", buckets=_SECONDS, registry=registry
        )
        self.seconds = Histogram("workbench_answer_seconds", "Per answer", buckets=_SECONDS, registry=registry)
        running = Gauge("workbench_answers_running", "Answers being written", registry=registry)
        waiting = Gauge("workbench_requests_waiting", "Requests in the queue", registry=registry)
        ready = Gauge("workbench_ready", "1 if the process with the models takes requests", registry=registry)
        running.set_function(lambda: engine.load[0])
        waiting.set_function(lambda: engine.load[1])
        ready.set_function(lambda: engine.ready)

    def text(self) -> bytes:
        """The present values."""
        return generate_latest(self._registry)

"""What a server has done and is doing, as Prometheus reads it: counters, times by kind of request, gauges."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from geospot.engine.serve.pending import Pending
from geospot.engine.serve.wire import Refused
from geospot.errors import Cancelled

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


@dataclass(frozen=True)
class Moment:
    """What a server is at."""

    about: dict[str, str]  # model, device, versions
    sessions: int
    models: int  # in training
    samplers: int
    held_bytes: int  # by the bodies of requests that wait
    waiting: Counts[str] = field(default_factory=Counts)  # accepted and not answered, by kind
    queue: dict[str, int] = field(default_factory=dict)  # of the engine: operations, samples, sampled
    ran: dict[str, int] = field(default_factory=dict)  # by the engine since the start: operations, batches, samples
    device_bytes: dict[str, int] = field(default_factory=dict)  # of a GPU: allocated, reserved


class Metrics:
    """The counters of one server, and what is read off it when somebody asks."""

    def __init__(self, now: Callable[[], Moment]):
        self.registry = CollectorRegistry()
        self.http = Counter(
            "geospot_http_requests", "HTTP requests answered", ["endpoint", "method", "status"], registry=self.registry
        )
        self.requests = Counter(
            "geospot_requests",
            "Requests to the engine that have an answer, an error or were cancelled",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "geospot_request_seconds",
            "From a request's acceptance to its answer, waiting included",
            ["kind"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.tokens = Counter(
            "geospot_tokens",
            "Tokens of prompts, tokens sampled, and tokens that a loss was computed on",
            ["use"],
            registry=self.registry,
        )
        for use in ("prompt", "sampled", "scored"):
            self.tokens.labels(use)
        ProcessCollector(registry=self.registry)  # process_resident_memory_bytes, process_cpu_seconds_total, ...
        self.registry.register(_Gauges(now))

    def count(self, pending: Pending) -> None:
        """A request of a client is answered, in whichever way."""
        self.requests.labels(pending.kind, outcome(pending)).inc()
        self.seconds.labels(pending.kind).observe(pending.waited_s())
        for use, n in pending.used().items():
            self.tokens.labels(use).inc(n)

    def text(self) -> bytes:
        """All of it in Prometheus' text form (0.0.4)."""
        return generate_latest(self.registry)


def outcome(pending: Pending) -> str:
    """What became of a request: waiting, answered, refused (the client's mistake), cancelled or failed (ours)."""
    if not pending.is_done:
        return "waiting"
    error = pending.error()
    if error is None:
        return "answered"
    if isinstance(error, Cancelled):
        return "cancelled"
    return "refused" if is_users(error) else "failed"


def is_users(error: BaseException) -> bool:
    """Whether an error of the engine is the client's mistake or wish."""
    return isinstance(error, ValueError | FileExistsError | FileNotFoundError | Cancelled | Refused)


class _Gauges(Collector):
    """What is so at the moment of asking."""

    def __init__(self, now: Callable[[], Moment]):
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: the registry need not ask for a moment before there is one."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The registry calls this for each answer."""
        now = self._now()
        yield InfoMetricFamily("geospot", "What is served", value=now.about)
        alone = (
            ("geospot_sessions", "Open sessions of clients", now.sessions),
            ("geospot_models", "Models in training", now.models),
            ("geospot_samplers", "Samplers, in memory or on the disk", now.samplers),
            ("geospot_waiting_bytes", "Bodies of requests that wait for the engine", now.held_bytes),
        )
        for name, says, value in alone:
            yield GaugeMetricFamily(name, says, value=value)
        labelled = (
            ("geospot_waiting_requests", "Accepted requests without an answer", "kind", now.waiting),
            ("geospot_queue", "What waits for the engine, and what is being sampled", "state", now.queue),
            ("geospot_device_memory_bytes", "Memory of the GPU", "kind", now.device_bytes),
        )
        for name, says, label, values in labelled:
            family = GaugeMetricFamily(name, says, labels=[label])
            for key, value in values.items():
                family.add_metric([key], value)
            yield family
        ran = CounterMetricFamily("geospot_engine", "Operations, batches of samples, samples in them", labels=["what"])
        for key, value in now.ran.items():
            ran.add_metric([key], value)
        yield ran

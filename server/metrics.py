"""What Prometheus may ask of a running server: counts, times and states, and nothing of anybody.

Counters and histograms are this process's, since it started. Gauges of sessions, generation, log and quotas
are read from the registry when they are asked for, and so are the same from every process. Labels are closed
sets but for the names of those who have certificates, of legal entities and of the purpose.

Not protected against: whoever reaches the port. There is no password; what the page shows is how much is
enrolled and matched, how busy the platform is, and who may match how much more today.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import HTTPServer
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from purposematch.protocol.epsilon import EPSILON_ONE
from purposematch.protocol.errors import ConfigurationError, PurposematchError
from purposematch.server.certificate_ends import file_ends
from purposematch.server.config import ListenAddress
from purposematch.server.platform import Platform
from purposematch.server.status import platform_state

__all__ = ["ELEMENT_STEPS", "Metrics", "serving_metrics"]

ELEMENT_STEPS: Final = ("received", "evaluated", "committed", "returned")
"""What becomes of the elements of a list, in this order; canaries are among the first two. Returned are, in a
set exchange, the platform's own points."""

PHASES: Final = ("waiting", "computing")
"""What a batch goes through."""

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency histograms, in seconds; a batch of 8,192 elements takes some hundredths."""

_SECOND: Final = 1_000_000


class Metrics:
    """The metrics of one server process.

    Args:
        platform: the open platform.

    Attributes:
        registry: what a page is made from.
    """

    def __init__(self, platform: Platform) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._elements = Counter(
            "purposematch_elements", "Elements of lists, by step.", ["step"], registry=self.registry
        )
        self._batches = Gauge(
            "purposematch_batches",
            "Batches that wait for a thread or are computed.",
            ["phase"],
            registry=self.registry,
        )
        self._evaluation = Histogram(
            "purposematch_evaluation_seconds",
            "What a batch spends in each phase.",
            ["phase"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._calls = Histogram(
            "purposematch_call_seconds",
            "Calls from first to last message, by method.",
            ["method"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "purposematch_refusals",
            "Calls that were refused or failed, by method and reason.",
            ["method", "reason"],
            registry=self.registry,
        )
        # What was not yet counted is zero, and not missing.
        for step in ELEMENT_STEPS:
            self._elements.labels(step)
        for phase in PHASES:
            self._batches.labels(phase)
            self._evaluation.labels(phase)
        self.registry.register(_PlatformCollector(platform))

    def count_elements(self, step: str, count: int) -> None:
        """Counts elements that reached one of `ELEMENT_STEPS`."""
        self._elements.labels(step).inc(count)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A batch is in one of `PHASES` while the body runs."""
        with self._batches.labels(name).track_inprogress(), self._evaluation.labels(name).time():
            yield

    def count_call(self, method: str, seconds: float, reason: str | None) -> None:
        """Counts a call that has ended.

        Args:
            method: its name.
            seconds: how long it took.
            reason: why it was refused; None if it was not.
        """
        self._calls.labels(method).observe(seconds)
        if reason is not None:
            self._refusals.labels(method, reason).inc()


class _PlatformCollector(Collector):
    """Reads the state of the platform whenever it is asked."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def describe(self) -> Iterable[Metric]:
        """Nothing: asking the registry for names alone would be a question too many."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        details = {"version": version("purposematch"), "group": self._platform.group.name}
        yield InfoMetricFamily("purposematch", "What serves.", details)
        try:
            state = platform_state(self._platform)
        except PurposematchError:
            yield _gauge("purposematch_registry_readable", "Whether the registry can be read.", 0)
            return
        yield _gauge("purposematch_registry_readable", "Whether the registry can be read.", 1)
        yield _gauge("purposematch_ready", "Whether a session could open now.", int(not state.problem))
        yield _labelled(
            "purposematch_sessions",
            "Sessions, by state.",
            "state",
            {kind.value: count for kind, count in state.sessions.items()},
        )
        yield _gauge("purposematch_log_leaves", "Leaves of the transparency log.", state.log_size)
        left = "What is left today, by advertiser and quota of the agreement in force."
        quotas = GaugeMetricFamily("purposematch_quota_left", left, labels=["advertiser", "quota"])
        for each in state.quotas:
            quotas.add_metric([each.advertiser, each.quota], each.left)
        yield quotas
        budget = "Epsilon that is left for noisy counts, by whose budget it is and days that it is for."
        budgets = GaugeMetricFamily("purposematch_budget_left", budget, labels=["holder", "name", "days"])
        for one in state.budgets:
            budgets.add_metric([one.holder, one.name, str(one.days)], one.left / EPSILON_ONE)
        yield budgets
        ends = "Until the certificates in tls/ end, and the last one of each holder that is not revoked."
        ending = GaugeMetricFamily(
            "purposematch_certificate_remaining_seconds", ends, labels=["role", "name"]
        )
        with suppress(ConfigurationError):
            for name, end in file_ends(self._platform.data_dir).items():
                ending.add_metric([name, ""], (end - state.at) / _SECOND)
        for role, name, end in state.certificates:
            ending.add_metric([role, name], (end - state.at) / _SECOND)
        yield ending
        latest = state.generation
        if latest is None or state.epoch_ends is None:
            return
        for name, text, value in (
            ("age", "Age of the latest generation.", state.at - latest.published_at),
            ("remaining", "Until no session opens on it.", latest.valid_until - state.at),
        ):
            yield _gauge(f"purposematch_generation_{name}_seconds", text, value / _SECOND)
        yield _gauge("purposematch_generation_identifiers", "Enrolled, without canaries.", latest.count)
        yield _gauge("purposematch_epoch", "The key epoch of the latest generation.", latest.epoch)
        remaining = (state.epoch_ends - state.at) / _SECOND
        yield _gauge("purposematch_epoch_remaining_seconds", "Until its keys are changed.", remaining)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


@contextmanager
def serving_metrics(
    metrics: Metrics, listen: ListenAddress | None, ready: Callable[[str], object]
) -> Iterator[None]:
    """Serves the page in threads of its own while the body runs; nothing where `listen` is None.

    Args:
        metrics: what is shown.
        listen: where; port 0 picks a free one.
        ready: told HOST:PORT.

    Raises:
        ConfigurationError: the address cannot be bound.
    """
    if listen is None:
        yield
        return
    try:
        server, thread = start_http_server(listen.port, listen.host.strip("[]"), metrics.registry)
    except OSError:
        raise ConfigurationError(
            f"cannot listen on {listen} for metrics: the address is in use or not this machine's"
        ) from None
    ready(f"{listen.host}:{server.server_port}")
    try:
        yield
    finally:
        _close(server)
        thread.join()


def _close(server: HTTPServer) -> None:
    server.shutdown()
    server.server_close()

"""The courier's Prometheus objects, built from the table of names; one process, so a plain registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from reacquire.jobs import metrics as names


class CourierMetrics:
    """Counters and histograms of one courier process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.items = self._counter(names.ITEMS)
        self.failures = self._counter(names.WORKER_FAILURES)
        self.put_off = self._counter(names.PUT_OFF)
        self.instances = self._counter(names.INSTANCES)
        self.notices = self._counter(names.NOTICES)
        self.unwritten = Gauge(names.UNWRITTEN.name, names.UNWRITTEN.help, registry=self.registry)
        duration = names.STAGE_DURATION
        self.stage = Histogram(
            duration.name, duration.help, duration.labels, buckets=duration.buckets, registry=self.registry
        )

    def count(self, operation: str, outcome: str, code: str | None) -> None:
        """A job left this courier."""
        self.items.labels(operation, outcome).inc()
        if code is not None:
            self.failures.labels(code, operation).inc()

    def _counter(self, metric: names.Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def serve(self, host: str, port: int) -> None:
        """Answer scrapes from a daemon thread."""
        start_http_server(port, addr=host, registry=self.registry)

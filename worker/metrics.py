"""The worker's Prometheus objects, built from the table of names; one process, so a plain registry."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from reacquire import __version__
from reacquire.jobs import metrics as names


class WorkerMetrics:
    """Counters and histograms of one worker process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queue_wait = self._histogram(names.QUEUE_WAIT)
        self.batch_size = self._histogram(names.BATCH_SIZE)
        self.compute = self._histogram(names.BATCH_COMPUTE)
        self.prepare = self._histogram(names.PREPARE)
        self.finish = self._histogram(names.FINISH)
        self.items = self._counter(names.ITEMS)
        self.failures = self._counter(names.WORKER_FAILURES)
        self.steps = self._counter(names.STEPS)
        self.out_of_memory = self._counter(names.OUT_OF_MEMORY)
        self.gpu_memory = Gauge(names.GPU_MEMORY.name, names.GPU_MEMORY.help, registry=self.registry)
        self.unwritten = Gauge(names.UNWRITTEN.name, names.UNWRITTEN.help, registry=self.registry)
        self.model_loaded = Gauge(
            names.MODEL_LOADED.name, names.MODEL_LOADED.help, names.MODEL_LOADED.labels, registry=self.registry
        )

        self.model_active = Gauge(
            names.MODEL_ACTIVE.name, names.MODEL_ACTIVE.help, names.MODEL_ACTIVE.labels, registry=self.registry
        )

    def show_bundles(self, gauge: Gauge, labels: Collection[str]) -> None:
        """Set a gauge of bundles (``NAME-VERSION``) to 1 for ``labels`` and drop all others."""
        for metric in list(gauge.collect()):
            for sample in metric.samples:
                if sample.labels["model"] not in labels:
                    gauge.remove(sample.labels["model"], sample.labels["version"])
        for label in labels:
            gauge.labels(label, __version__).set(1)

    def count(self, operation: str, outcome: str, code: str | None) -> None:
        """A job left this worker."""
        self.items.labels(operation, outcome).inc()
        if code is not None:
            self.failures.labels(code, operation).inc()

    def _counter(self, metric: names.Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: names.Metric) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry)

    def serve(self, host: str, port: int) -> None:
        """Answer scrapes from a daemon thread."""
        start_http_server(port, addr=host, registry=self.registry)

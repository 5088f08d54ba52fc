"""The API's Prometheus objects; what the store knows (queue, totals) is read from it at scrape time."""

from collections.abc import Iterator

import redis
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from reacquire.jobs import metrics as names
from reacquire.jobs.ends import NOBODY, EndWitness
from reacquire.jobs.presence import Presence
from reacquire.jobs.store import JobStore


class StoreCollector(Collector):
    """Numbers of the job store; none of them while Redis is down."""

    def __init__(self, store: JobStore, presence: Presence) -> None:
        self._store = store
        self._presence = presence

    def describe(self) -> list:
        """Nothing: keeps the registry from calling ``collect`` (and Redis) when this collector is registered."""
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        try:
            gauges = (
                (names.QUEUE_DEPTH, self._store.depth()),
                (names.COURIER_QUEUE_DEPTH, self._store.depth("fetch")),
                (names.COURIERS, len(self._presence.alive("courier"))),
                (names.JOBS_IN_PROGRESS, self._store.running()),
                (names.WORKERS, len(self._presence.alive())),
            )
            totals, failures = self._store.totals(), self._store.failures()
        except redis.RedisError:
            return
        for metric, value in gauges:
            yield GaugeMetricFamily(metric.name, metric.help, value=value)
        finished = CounterMetricFamily(
            names.JOBS_FINISHED.name, names.JOBS_FINISHED.help, labels=names.JOBS_FINISHED.labels
        )
        for labels, count in totals.items():
            finished.add_metric(labels, count)
        yield finished
        failed = CounterMetricFamily(names.JOB_FAILURES.name, names.JOB_FAILURES.help, labels=names.JOB_FAILURES.labels)
        for labels, count in failures.items():
            failed.add_metric(labels, count)
        yield failed


class ServiceMetrics:
    """Counters and histograms of the API process."""

    def __init__(self, store: JobStore, presence: Presence, ends: EndWitness = NOBODY) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter(names.HTTP_REQUESTS)
        self.submitted = self._counter(names.JOBS_SUBMITTED)
        self.rejected = self._counter(names.REJECTED)
        duration = names.HTTP_DURATION
        self.duration = Histogram(
            duration.name, duration.help, duration.labels, buckets=duration.buckets, registry=self.registry
        )
        unwritten = Gauge(names.UNWRITTEN.name, names.UNWRITTEN.help, registry=self.registry)
        unwritten.set_function(lambda: _still_waiting(ends))
        self.registry.register(StoreCollector(store, presence))

    def _counter(self, metric: names.Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)


def _still_waiting(ends: EndWitness) -> float:
    """Lines that even now can't be written: the API has no heartbeat, so each scrape tries again."""
    ends.flush()
    return float(ends.waiting)

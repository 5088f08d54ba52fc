"""PromQL from the table of metrics: names cannot drift from the code, counters and histograms get their suffixes.

Every API pod reports what Redis knows, so numbers of the store are the largest over the pods, never their sum; numbers
of a process are summed.
"""

from reacquire.jobs.metrics import Metric


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """The metric as Prometheus stores it, e.g. ``reacquire_requests_rejected_total{code="overloaded"}``.

    Raises
    ------
    ValueError
        For a matcher of a label that the metric does not have.
    """
    for matcher in matchers:
        label = matcher.split("=")[0].rstrip("!")
        if label not in metric.labels:
            raise ValueError(f"{metric.name} has no label {label}")
    name = metric.name + (suffix or ("_total" if metric.kind == "counter" else ""))
    return name + ("{" + ",".join(matchers) + "}" if matchers else "")


def any_of(label: str, *values: str) -> str:
    """A matcher for series whose ``label`` is one of ``values``."""
    return label + '=~"' + "|".join(values) + '"'


def of_store(metric: Metric, by: str = "") -> str:
    """The present value of a gauge that is read from Redis."""
    return f"max{_by(by)} ({series(metric)})"


def rate(metric: Metric, *matchers: str, by: str = "", window: str = "5m", suffix: str = "") -> str:
    """Events (or, of a histogram's ``_sum``, seconds) per second, over all processes."""
    return f"sum{_by(by)} (rate({series(metric, *matchers, suffix=suffix)}[{window}]))"


def increase_of_store(metric: Metric, *matchers: str, by: str = "", window: str = "5m") -> str:
    """Events in ``window`` of a counter that is read from Redis."""
    return f"sum{_by(by)} (max without (instance, pod) (increase({series(metric, *matchers)}[{window}])))"


def quantile(share: float, metric: Metric, by: str = "", window: str = "5m") -> str:
    """A quantile of a histogram, over all processes."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({series(metric, suffix='_bucket')}[{window}])))"


def mean(metric: Metric, by: str = "", window: str = "5m") -> str:
    """The mean of a histogram, over all processes."""
    total, count = (f"sum{_by(by)} (rate({series(metric, suffix=s)}[{window}]))" for s in ("_sum", "_count"))
    return f"{total} / {count}"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""

"""The networks' part of an audit: a few slices of a series, spread over it, through the predictor."""

from collections.abc import Sequence
from dataclasses import dataclass

from reacquire.audit.archive import FoundSeries
from reacquire.audit.compare import Accuracy, compare
from reacquire.audit.journal import SeriesAudit
from reacquire.dicom import inspect, order_series
from reacquire.engine import Pipeline
from reacquire.errors import ReacquireError
from reacquire.jobs.spec import OperationSpec, Options


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` indices, evenly spread and away from the ends, in order."""
    wanted = min(count, most)
    return [int((k + 0.5) * count / wanted) for k in range(wanted)]


@dataclass(frozen=True)
class Judge:
    """Judges series with one bundle, by at most ``most_slices`` slices each."""

    pipeline: Pipeline
    most_slices: int
    allow_synthetic: bool = False

    @property
    def accuracy(self) -> Accuracy:
        return Accuracy.of(self.pipeline.bundle.metrics)

    def judge(self, series: FoundSeries, series_id: str) -> SeriesAudit:
        """The audit of a series; what is wrong with it is part of the answer, not an exception."""
        try:
            files = series.load()
            return self._judged(files, series_id)
        except ReacquireError as error:
            return SeriesAudit(series_id, refused=error.code)
        except OSError:  # a file that went away since the scan
            return SeriesAudit(series_id, refused="unreadable-file")

    def _judged(self, files: Sequence[bytes], series_id: str) -> SeriesAudit:
        order = order_series([inspect(data, allow_synthetic=self.allow_synthetic) for data in files])
        chosen = [files[order[i]] for i in spread(len(order), self.most_slices)]
        spec = OperationSpec(operation="predict-iap", options=Options(allow_synthetic=self.allow_synthetic))
        work = self.pipeline.prepare(spec, chosen)
        raw = self.pipeline.run([work])[0]
        if isinstance(raw, ReacquireError):
            raise raw
        assert raw is not None  # nothing was asked to be dropped
        document = self.pipeline.finish(work, raw).document
        comparisons = compare(document["parameters"], self.pipeline.vocabulary, self.accuracy)
        return SeriesAudit(series_id, len(order), document["slices_read"], comparisons)

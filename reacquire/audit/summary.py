"""What many series say together: counts, a ranking of disagreements, and the files that carry them (CSV, JSON)."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reacquire.audit.compare import VERDICTS, Accuracy, Comparison, Verdict
from reacquire.audit.journal import SeriesAudit
from reacquire.iap import Categorical, Vocabulary

RISKY_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run such a cell as a formula
COLUMNS = (
    "series", "slices", "looked_at", "keyword", "unit", "header", "predicted", "probability", "verdict", "confidence",
    "refused",
)  # fmt: skip
IDENTITY_COLUMNS = ("SeriesInstanceUID", "where")


@dataclass(frozen=True)
class Row:
    """One parameter over the archive.

    Attributes
    ----------
    counts : series by verdict
    expected : how many of the compared series a predictor of the bundle's own accuracy would call wrong if every header
        were right; None where that accuracy was never measured
    own : the bundle's accuracy in words
    """

    keyword: str
    unit: str | None
    counts: Mapping[Verdict, int]
    expected: float | None
    own: str

    @property
    def compared(self) -> int:
        return self.counts["agrees"] + self.counts["disagrees"]


@dataclass(frozen=True)
class Summary:
    """The whole audit; ``disagreements`` are (series id, comparison), the surest first."""

    series: int
    refused: Mapping[str, int]
    rows: tuple[Row, ...]
    disagreements: tuple[tuple[str, Comparison], ...]

    def beyond(self, confidence: float) -> int:
        """Disagreements at this confidence or above."""
        return sum(comparison.confidence >= confidence for _, comparison in self.disagreements)


def summarise(audits: Sequence[SeriesAudit], vocabulary: Vocabulary, accuracy: Accuracy) -> Summary:
    """Count and rank."""
    by_keyword: dict[str, Counter[Verdict]] = {p.keyword: Counter() for p in vocabulary.parameters}
    for audit in audits:
        for comparison in audit.comparisons:
            by_keyword[comparison.keyword][comparison.verdict] += 1
    rows = []
    for parameter in vocabulary.parameters:
        counts = {verdict: by_keyword[parameter.keyword][verdict] for verdict in VERDICTS}
        share = accuracy.expected(parameter)
        compared = counts["agrees"] + counts["disagrees"]
        expected = None if share is None else share * compared
        rows.append(
            Row(parameter.keyword, parameter.unit, counts, expected, own_words(parameter.keyword, vocabulary, accuracy))
        )
    found = [(audit.id, c) for audit in audits for c in audit.comparisons if c.verdict == "disagrees"]
    found.sort(key=lambda pair: (-pair[1].confidence, pair[0], pair[1].keyword))
    refused = Counter(audit.refused for audit in audits if audit.refused is not None)
    return Summary(len(audits), dict(refused), tuple(rows), tuple(found))


def own_words(keyword: str, vocabulary: Vocabulary, accuracy: Accuracy) -> str:
    """The bundle's accuracy for a parameter, for people."""
    parameter = vocabulary[keyword]
    if isinstance(parameter, Categorical):
        return f"{accuracy.right[keyword]:.0%} right" if keyword in accuracy.right else "never measured"
    if keyword not in accuracy.rmse:
        return "never measured"
    return f"off by {accuracy.rmse[keyword]:.2g} {parameter.unit} (RMSE)"


def to_csv(audits: Sequence[SeriesAudit]) -> str:
    """One line per series and parameter, disagreements first and by confidence; refused series at the end."""
    identified = any(audit.identity for audit in audits)
    stream = io.StringIO()
    columns = COLUMNS + (IDENTITY_COLUMNS if identified else ())
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    pairs = [(audit, comparison) for audit in audits for comparison in audit.comparisons]
    pairs.sort(key=lambda pair: (pair[1].verdict != "disagrees", -pair[1].confidence, pair[0].id))
    for audit, comparison in pairs:
        writer.writerow(_cells(audit) | {k: _cell(v) for k, v in asdict(comparison).items()})
    for audit in audits:
        if audit.refused is not None:
            writer.writerow(_cells(audit))
    return stream.getvalue()


def _cells(audit: SeriesAudit) -> dict[str, Any]:
    return {
        "series": audit.id,
        "slices": audit.slices,
        "looked_at": audit.looked_at,
        "refused": audit.refused or "",
        **{k: _cell(v) for k, v in audit.identity.items()},
    }


def _cell(value: Any) -> Any:
    """Text of a header as text: a spreadsheet must not take it for a formula."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(RISKY_STARTS) else value


def to_document(
    summary: Summary, audits: Sequence[SeriesAudit], *, bundle: Mapping[str, str], left_out: Mapping[str, int]
) -> dict[str, Any]:
    """The audit as JSON: what was asked, the counts, and every series."""
    return {
        "bundle": dict(bundle),
        "notice": "The predictor errs: a disagreement is a reason to look, not a finding. Research use only.",
        "series": summary.series,
        "files_left_out": dict(left_out),
        "series_refused": dict(summary.refused),
        "parameters": [{**asdict(row), "compared": row.compared} for row in summary.rows],
        "disagreements": [{"series": series, **asdict(c)} for series, c in summary.disagreements],
        "audits": [asdict(audit) for audit in audits],
    }

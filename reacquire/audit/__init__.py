"""Header audit: what the pixels of an archive's series say of their acquisition, beside what the headers say. No torch.

``judge`` (the networks) and ``figure`` (matplotlib) are imported by their own names, by whoever needs them.
"""

from reacquire.audit.archive import FoundSeries, Scan, scan_path
from reacquire.audit.compare import VERDICTS, Accuracy, Comparison, Verdict, compare
from reacquire.audit.journal import Journal, SeriesAudit
from reacquire.audit.summary import Summary, summarise, to_csv, to_document

__all__ = [
    "VERDICTS",
    "Accuracy",
    "Comparison",
    "FoundSeries",
    "Journal",
    "Scan",
    "SeriesAudit",
    "Summary",
    "Verdict",
    "compare",
    "scan_path",
    "summarise",
    "to_csv",
    "to_document",
]

"""Downloaded breast MR -> one manifest: which slices, whose, under which parameters, with which mask, and why not.

``layout`` finds series, ``tables`` reads the spreadsheets, ``select`` picks the pre-contrast series, ``slices`` reads
it, ``masks`` places the segmentations, ``manifest`` keeps the lines, ``run`` puts it together.
"""

from training.ingest.problem import IngestError
from training.ingest.run import Request, ingest

__all__ = ["IngestError", "Request", "ingest"]

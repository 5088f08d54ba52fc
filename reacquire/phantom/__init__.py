"""A physics phantom: simulated women, scanned with the protocols of the Duke cohort, with every truth known.

NumPy and SciPy only. Start with ``make_subject``, ``sample_protocol``, ``sample_scanner`` and ``simulate_slice``.
"""

from reacquire.phantom.cohort import CohortSpec, write_cohort, write_woman
from reacquire.phantom.labelmap import label_map_subject
from reacquire.phantom.pair import Pair, Simulated, contrast_only, make_pair, simulate_slice
from reacquire.phantom.protocols import DUKE_PROTOCOLS, Protocol, sample_protocol
from reacquire.phantom.scanner import Scanner, same_site, sample_scanner
from reacquire.phantom.subject import Subject, make_subject

__all__ = [
    "DUKE_PROTOCOLS",
    "CohortSpec",
    "Pair",
    "Protocol",
    "Scanner",
    "Simulated",
    "Subject",
    "contrast_only",
    "label_map_subject",
    "make_pair",
    "make_subject",
    "same_site",
    "sample_protocol",
    "sample_scanner",
    "simulate_slice",
    "write_cohort",
    "write_woman",
]

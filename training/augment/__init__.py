"""Counterfactual copies of a dataset: planned, made here or by running workers, written as DICOM, NIfTI or nnU-Net.

``plan`` says which slices under which target, ``makers`` (or ``broker``) make them, ``outputs`` write them, ``ledger``
remembers what is done, ``run`` puts it together. The unit of work is a slice: one in the ledger is never made again.
"""

from training.augment.plan import AugmentError, Request
from training.augment.run import augment

__all__ = ["AugmentError", "Request", "augment"]

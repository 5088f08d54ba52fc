"""Counterfactual acquisition of MR images: the library that service, worker, training and cli share.

Importing this package loads nothing heavy; torch enters only with ``networks``, ``diffusion``, ``imaging``,
``engine``, ``metrics`` and ``bundles.load``.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]

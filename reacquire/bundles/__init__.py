"""Weights that carry their own vocabulary, preprocessing, schedule and hashes (MONAI bundle layout)."""

from reacquire.bundles.manifest import Manifest
from reacquire.bundles.store import BundleInfo, BundleStore

__all__ = ["BundleInfo", "BundleStore", "Manifest"]

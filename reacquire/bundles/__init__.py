"""Weights that carry their own vocabulary, preprocessing, schedule and hashes (MONAI bundle layout)."""

from reacquire.bundles.manifest import Manifest
from reacquire.bundles.store import BundleInfo, BundleStore, Inventory, RefusedBundle

__all__ = ["BundleInfo", "BundleStore", "Inventory", "Manifest", "RefusedBundle"]

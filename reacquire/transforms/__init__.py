"""Counterfactuals as random augmentations of a training pipeline: for MONAI, and for TorchIO in ``torchio`` beside."""

from reacquire.transforms.axes import Axes
from reacquire.transforms.dictionary import RandIAPCounterfactuald
from reacquire.transforms.editor import IAPEditor
from reacquire.transforms.store import EditStore
from reacquire.transforms.targets import TargetPool

__all__ = ["Axes", "EditStore", "IAPEditor", "RandIAPCounterfactuald", "TargetPool"]

"""Pixels between the scanner's grid and the model's: orientation, normalisation, and their exact inverse."""

from reacquire.imaging.geometry import Orientation, from_canonical, tilt_degrees, to_canonical
from reacquire.imaging.preprocess import ModelImage, Preprocessing

__all__ = ["ModelImage", "Orientation", "Preprocessing", "from_canonical", "tilt_degrees", "to_canonical"]

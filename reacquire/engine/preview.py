"""Grey and coloured pictures of slices for people to look at (PNG); never an input of anything."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FAT_RGB = (66, 135, 245)
FGT_RGB = (245, 149, 66)
OPACITY = 0.45


def grey(image: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    """(R, C) values -> (R, C, 3) bytes, ``window`` = (value of black, value of white)."""
    low, high = window
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.repeat(scaled.astype(np.uint8)[..., None], 3, axis=2)


def signed(difference: NDArray[Any], limit: float) -> NDArray[np.uint8]:
    """(R, C) differences -> (R, C, 3): blue where negative, red where positive, black at zero."""
    scaled = np.clip(difference / max(limit, 1e-6), -1, 1)
    red, blue = np.clip(scaled, 0, 1), np.clip(-scaled, 0, 1)
    return (np.stack([red, 0.35 * (red + blue), blue], axis=2) * 255).astype(np.uint8)


def overlay(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(R, C, 3) picture with fat in blue and fibroglandular tissue in orange over it."""
    result = image.astype(np.float32)
    for label, colour in ((1, FAT_RGB), (2, FGT_RGB)):
        where = labels == label
        result[where] = (1 - OPACITY) * result[where] + OPACITY * np.array(colour, np.float32)
    return result.astype(np.uint8)


def display_window(image: NDArray[Any]) -> tuple[float, float]:
    """Black and white for a slice: its 1st and 99.5th percentiles."""
    low, high = np.percentile(image, (1.0, 99.5))
    return float(low), float(high)


def png(picture: NDArray[np.uint8]) -> bytes:
    """(R, C, 3) bytes as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def comparison_png(source: NDArray[Any], counterfactual: NDArray[Any]) -> bytes:
    """Source, counterfactual and their difference, side by side, on the source's own window."""
    window = display_window(source)
    panels = (
        grey(source, window),
        grey(counterfactual, window),
        signed(counterfactual - source.astype(np.float32), 0.5 * (window[1] - window[0])),
    )
    return png(np.concatenate(panels, axis=1))


def overlay_png(source: NDArray[Any], labels: NDArray[np.uint8]) -> bytes:
    """The slice with its segmentation over it."""
    return png(overlay(grey(source, display_window(source)), labels))

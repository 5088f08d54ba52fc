"""The demo's one picture: what there was, what was made of it and, where it is known, what it should have become."""

from io import BytesIO

import highdicom
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from examples.phantom_case import Truth
from reacquire.dicom import SliceImage
from reacquire.engine.preview import display_window, grey, overlay, png, signed
from reacquire.engine.tone import FAT, GLAND
from reacquire.imaging import ModelImage, Preprocessing

CAPTION_PIXELS = 16  # the strip above each panel


def comparison_png(source: SliceImage, counterfactual: SliceImage, segmentation: bytes, truth: Truth | None) -> bytes:
    """Above: source, counterfactual and true target, on the source's grey scale. Below: the segmentation of the source,
    and how counterfactual and true target differ from it, on one scale. Each panel has its caption."""
    before, after = source.canonical(), counterfactual.canonical()
    labels = source.orientation.to_canonical(labels_of(segmentation, source))
    scale, window = Preprocessing().forward(before), display_window(before)
    images = {"source": before, "counterfactual": after}
    changes = {"change made (blue darker, orange brighter)": after - before}
    if truth is not None:
        images["true target"] = _like(_on_scale(truth.image, scale), before)
        changes["change wanted (on the same scale)"] = images["true target"] - before
    pictures = {name: grey(image, window) for name, image in images.items()}
    above = [captioned(pictures[name], f"{name}{contrast(image, scale, labels)}") for name, image in images.items()]
    below = [captioned(overlay(pictures["source"], labels), "segmentation of the source (blue fat, orange gland)")]
    below += [captioned(signed(c, 0.5 * (window[1] - window[0])), name) for name, c in changes.items()]
    return png(np.concatenate([np.concatenate(row, axis=1) for row in (above, below)]))


def contrast(image: NDArray[np.float32], scale: ModelImage, labels: NDArray[np.uint8]) -> str:
    """The contrast of a caption: medians of fat and gland as the networks see them, normalised as ``scale`` was."""
    if not ((labels == FAT).any() and (labels == GLAND).any()):
        return ""
    fat, gland = ((np.median(image[labels == t]) - scale.low) / (scale.high - scale.low) for t in (FAT, GLAND))
    return f": fat {fat:.2f}, gland {gland:.2f}" + (f", gland / fat {gland / fat:.1f}" if fat > 0 else "")


def captioned(panel: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """(R, C, 3) -> (``CAPTION_PIXELS`` + R, C, 3): the panel below a black strip with its caption."""
    strip = Image.new("RGB", (panel.shape[1], CAPTION_PIXELS))
    ImageDraw.Draw(strip).text((4, 2), caption, fill="white", font=ImageFont.load_default())
    return np.concatenate([np.asarray(strip), panel])


def labels_of(segmentation: bytes, source: SliceImage) -> NDArray[np.uint8]:
    """The label image (R, C) of ``source`` in our own SEG, in stored orientation."""
    seg = highdicom.seg.segread(BytesIO(segmentation))
    pixels = seg.get_pixels_by_source_instance(
        [source.header.sop_instance_uid], combine_segments=True, assert_missing_frames_are_empty=True
    )
    return pixels[0].astype(np.uint8)


def _on_scale(image: NDArray[np.float32], scale: ModelImage) -> NDArray[np.float32]:
    """Another scanner's grey values on those behind ``scale``: both are normalised alike, as the networks see them."""
    own = Preprocessing().forward(image)
    return (image - own.low) / (own.high - own.low) * (scale.high - scale.low) + scale.low


def _like(image: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Another field of view's pixels on the grid of ``reference``."""
    return np.asarray(Image.fromarray(image).resize((reference.shape[1], reference.shape[0])))

"""The demo's one picture: source, counterfactual, difference, segmentation, and the true target where it is known."""

from io import BytesIO

import highdicom
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from examples.phantom_case import Truth
from reacquire.dicom import SliceImage
from reacquire.engine.preview import display_window, grey, overlay, png, signed
from reacquire.imaging import Preprocessing

CAPTION_PIXELS = 16  # the strip above each panel


def comparison_png(source: SliceImage, counterfactual: SliceImage, segmentation: bytes, truth: Truth | None) -> bytes:
    """The panels side by side, all on the source's grey scale, each under its caption."""
    before, after = source.canonical(), counterfactual.canonical()
    window = display_window(before)
    picture = grey(before, window)
    panels = {
        "source": picture,
        "counterfactual": grey(after, window),
        "difference": signed(after - before, 0.5 * (window[1] - window[0])),
        "segmentation": overlay(picture, source.orientation.to_canonical(labels_of(segmentation, source))),
    }
    if truth is not None:
        panels["true target"] = _like(grey(_on_scale(truth.image, before), window), picture)
    return png(np.concatenate([captioned(panel, caption) for caption, panel in panels.items()], axis=1))


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


def _on_scale(image: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Another scanner's grey values on the scale of ``reference``: both normalised alike, as the networks see them."""
    own, shared = (Preprocessing().forward(i) for i in (image, reference))
    return (image - own.low) / (own.high - own.low) * (shared.high - shared.low) + shared.low


def _like(panel: NDArray[np.uint8], picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(panel).resize((picture.shape[1], picture.shape[0])))

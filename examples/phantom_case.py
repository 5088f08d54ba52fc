"""A simulated patient for the demo: her slice as DICOM, and what the other scanner would really have shown."""

from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray

from reacquire.dicom import SliceImage
from reacquire.imaging import Preprocessing
from reacquire.metrics import gap_closed, ssim
from reacquire.phantom import make_pair, make_subject, sample_protocol, sample_scanner
from reacquire.phantom.mr_object import to_dicom

WOMAN = 20_261_123  # no training cohort draws this seed
SOURCE_PROTOCOL, TARGET_PROTOCOL = "S1", "G3"


@dataclass(frozen=True)
class PhantomCase:
    """``source_dicom``: the file to send. Truth in canonical orientation: target image (R, C) in stored units, the same
    without noise, and labels (0 other, 1 breast without fibroglandular tissue, 2 fibroglandular)."""

    source_dicom: bytes
    target_image: NDArray[np.float32]
    target_clean: NDArray[np.float32]
    labels: NDArray[np.uint8]


def phantom_case(target: dict[str, str | float]) -> PhantomCase:
    """One woman on a Siemens Avanto and, for truth, on the GE scanner of ``TARGET_PROTOCOL`` set to ``target``."""
    rng = np.random.default_rng(WOMAN)
    subject = make_subject(WOMAN)
    source = sample_protocol(rng, protocol_id=SOURCE_PROTOCOL)
    other = sample_protocol(rng, protocol_id=TARGET_PROTOCOL)
    other = replace(other, iap={**other.iap, **target})
    scanners = sample_scanner(rng, source), sample_scanner(rng, other)
    z_mm = float(np.mean(subject.z_range))
    pair = make_pair(subject, z_mm, (source, scanners[0]), (other, scanners[1]), seed=WOMAN)
    stream = BytesIO()
    to_dicom(pair.source, woman=0, number=0, index=0, key="demo").save_as(stream, enforce_file_format=True)
    truth = pair.target
    return PhantomCase(stream.getvalue(), truth.image.astype(np.float32), truth.clean, truth.labels)


def score(case: PhantomCase, source: SliceImage, counterfactual: SliceImage) -> dict[str, float]:
    """Share of the gap to the true, noiseless re-acquisition that was closed inside the breast, at model size.

    ``gap_ceiling`` is what a second real acquisition with the target parameters would reach: its noise is not ours.
    """
    preprocessing = Preprocessing()
    before = preprocessing.forward(source.canonical())
    after = preprocessing.on_scale_of(counterfactual.canonical(), before)
    truth = preprocessing.forward(case.target_image)
    clean = preprocessing.on_scale_of(case.target_clean, truth)
    mask = torch.from_numpy(preprocessing.forward_labels(case.labels) > 0)[None, None]
    start, edited, wanted, noisy = (
        torch.from_numpy(values)[None, None] for values in (before.values, after, clean, truth.values)
    )
    figures = {
        "gap_closed": gap_closed(edited, wanted, start, mask),
        "gap_ceiling": gap_closed(noisy, wanted, start, mask),
        "ssim_to_true_target": ssim(edited, noisy),
        "ssim_of_source_to_true_target": ssim(start, noisy),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}

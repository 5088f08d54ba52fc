"""A simulated patient for the demo: her slice as DICOM, and what the other scanner would really have shown."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray

from reacquire.dicom import SliceImage
from reacquire.errors import TargetError
from reacquire.iap import Value, load_vocabulary, resolve_target
from reacquire.imaging import Preprocessing
from reacquire.metrics import gap_closed, ssim
from reacquire.phantom import (
    DUKE_PROTOCOLS,
    Protocol,
    Scanner,
    make_pair,
    make_subject,
    same_site,
    sample_protocol,
    sample_scanner,
)
from reacquire.phantom.mr_object import to_dicom

WOMAN = 20_261_123  # no training cohort draws this seed
SOURCE_PROTOCOL = "S1"


@dataclass(frozen=True, eq=False)
class Truth:
    """The re-acquisition in canonical orientation: ``image`` (R, C) float32 in stored units, ``clean`` the same without
    noise, ``labels`` (R, C) uint8 (0 other, 1 breast without fibroglandular tissue, 2 fibroglandular)."""

    image: NDArray[np.float32]
    clean: NDArray[np.float32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PhantomCase:
    """``source_dicom``: the file to send. ``truth`` is None where the target cannot be simulated, ``gap_note`` why."""

    source_dicom: bytes
    truth: Truth | None
    gap_note: str | None = None


@dataclass(frozen=True)
class Acquisition:
    """A protocol on one scanner instance."""

    protocol: Protocol
    scanner: Scanner

    @property
    def both(self) -> tuple[Protocol, Scanner]:
        return self.protocol, self.scanner


def phantom_case(target: Mapping[str, Value]) -> PhantomCase:
    """One woman on a Siemens Avanto and, for truth, as acquired with what ``target`` means for that slice."""
    rng = np.random.default_rng(WOMAN)
    subject = make_subject(WOMAN)
    protocol = sample_protocol(rng, protocol_id=SOURCE_PROTOCOL)
    source = Acquisition(protocol, sample_scanner(rng, protocol))
    other, note = true_acquisition(source, target)
    z_mm = float(np.mean(subject.z_range))
    pair = make_pair(subject, z_mm, source.both, (other or source).both, seed=WOMAN)
    stream = BytesIO()
    to_dicom(pair.source, woman=0, number=0, index=0, key="demo").save_as(stream, enforce_file_format=True)
    if other is None:
        return PhantomCase(stream.getvalue(), None, note)
    result = pair.target
    return PhantomCase(stream.getvalue(), Truth(result.image.astype(np.float32), result.clean, result.labels))


def true_acquisition(source: Acquisition, target: Mapping[str, Value]) -> tuple[Acquisition | None, str | None]:
    """What the service is asked for, as a scan: the target completed from the header by the service's own rule.

    A parameter that the table's protocol of the source does not cover (another model, field strength or fat saturation)
    takes its sampling and fat preparation from the protocol of that model which comes nearest; all else stays as it
    was (``same_site``).

    Returns
    -------
    tuple
        The acquisition, or None and why it cannot be simulated.
    """
    try:
        wanted = resolve_target(load_vocabulary(), target=target, header=source.protocol.iap, predicted={}).values
    except TargetError as error:
        return None, error.detail
    if "ManufacturerModelName" not in wanted:
        return None, "the target names a manufacturer and no model: there is not one true image"
    row = nearest_protocol(wanted)
    if row is None:
        return None, "the phantom has no protocol of the target's model"
    if row == source.protocol.protocol_id:
        return Acquisition(replace(source.protocol, iap=wanted), source.scanner), None
    rng = np.random.default_rng([WOMAN, 1])
    protocol = replace(sample_protocol(rng, protocol_id=row), iap=wanted)
    return Acquisition(protocol, same_site(source.scanner, source.protocol, protocol, rng)), None


def nearest_protocol(iap: Mapping[str, Value]) -> str | None:
    """The id of the table's protocol of this model: field strength decides, then scan options, then the order."""
    rows = [row for row in DUKE_PROTOCOLS.values() if row.model == iap["ManufacturerModelName"]]

    def agreement(protocol_id: str) -> tuple[bool, bool]:
        row = DUKE_PROTOCOLS[protocol_id]
        options = {text for text, _ in row.options}
        return row.field_t == iap["MagneticFieldStrength"], iap["ScanOptions"] in options

    return max((row.protocol_id for row in rows), key=agreement, default=None)


def score(truth: Truth, source: SliceImage, counterfactual: SliceImage) -> dict[str, float]:
    """Share of the gap to the true, noiseless re-acquisition that was closed inside the breast, at model size.

    ``gap_ceiling`` is what a second real acquisition with the target parameters would reach: its noise is not ours.
    """
    preprocessing = Preprocessing()
    before = preprocessing.forward(source.canonical())
    after = preprocessing.on_scale_of(counterfactual.canonical(), before)
    acquired = preprocessing.forward(truth.image)
    clean = preprocessing.on_scale_of(truth.clean, acquired)
    mask = torch.from_numpy(preprocessing.forward_labels(truth.labels) > 0)[None, None]
    start, edited, wanted, noisy = (
        torch.from_numpy(values)[None, None] for values in (before.values, after, clean, acquired.values)
    )
    figures = {
        "gap_closed": gap_closed(edited, wanted, start, mask),
        "gap_ceiling": gap_closed(noisy, wanted, start, mask),
        "ssim_to_true_target": ssim(edited, noisy),
        "ssim_of_source_to_true_target": ssim(start, noisy),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}

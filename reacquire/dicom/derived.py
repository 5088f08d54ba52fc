"""The header of a counterfactual MR image (PS3.3 A.4), built up from an allow-list. Pixels and bytes: ``write``."""

from pydicom.dataset import Dataset

from reacquire.dicom import copying, values
from reacquire.dicom.checks import MR_IMAGE
from reacquire.dicom.header import Header
from reacquire.dicom.synthetic import Derivation, mark_as_synthetic
from reacquire.dicom.tags import ATTRIBUTES, Attribute

KEYWORDS = copying.PATIENT + copying.STUDY + copying.SPACE + copying.ACQUISITION
# Type 1 of the MR Image module; RM, "research mode", is the defined term for anything else.
REQUIRED = {"ScanningSequence": "RM", "SequenceVariant": "NONE"}
MAY_BE_EMPTY = ("EchoTime", "RepetitionTime", "ScanOptions")  # Type 2 and 2C; the others are Type 3 and left out


def derived_header(derivation: Derivation, header: Header) -> Dataset:
    """Everything but the Image Pixel module of a counterfactual.

    SliceThickness is the source's whatever ``form.header_values`` says, because the slices did not move.

    Parameters
    ----------
    header : Header
        Of the source slice, one of ``derivation.headers``.
    """
    ds = copying.inherit(header.dataset, derivation.carried(KEYWORDS))
    ds.SOPClassUID, ds.Modality = MR_IMAGE, "MR"
    mark_as_synthetic(ds, derivation, header)
    for keyword, otherwise in REQUIRED.items():
        copying.copy_element(header.dataset, ds, keyword)
        if values.raw(ds, keyword) is None:
            setattr(ds, keyword, otherwise)
    if any("IR" in values.codes(source, "ScanningSequence") for source in derivation.sources):
        copying.copy_element(header.dataset, ds, "InversionTime")  # Type 2C of inversion recovery
    for attribute in ATTRIBUTES:
        if attribute.target:
            _set_acquisition_value(ds, derivation, header, attribute)
    return ds


def _set_acquisition_value(ds: Dataset, derivation: Derivation, header: Header, attribute: Attribute) -> None:
    """PS3.3 C.12.1: with SyntheticData YES the technique attributes hold the simulated values."""
    keyword, policy = attribute.keyword, derivation.form.header_values
    value = derivation.provenance.target.get(keyword) if policy == "target" else None
    if value is not None and value != header.iap.get(keyword):
        setattr(ds, keyword, value.split("\\") if isinstance(value, str) else f"{value:.8g}"[:16])
    elif policy == "blank":
        if keyword in MAY_BE_EMPTY:
            setattr(ds, keyword, None)
    elif value is not None or keyword in MAY_BE_EMPTY or keyword in derivation.carried((keyword,)):
        copying.copy_element(header.dataset, ds, keyword)  # the source's own spelling

"""Coded concepts that our objects carry, and where each is defined (PS3.16; own scheme where the standard has none)."""

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

OWN_SCHEME = "99BCFMR"

Code = tuple[str, str, str]  # value, scheme designator, meaning

SYNTHESIS: Code = ("CFSYNTH", OWN_SCHEME, "Counterfactual image synthesis")  # CID 7203 has no code for synthesis
RESAMPLING: Code = ("113085", "DCM", "Spatial resampling")  # CID 7203
SOURCE_IMAGE: Code = ("121322", "DCM", "Source image for image processing operation")  # CID 7202
ACQUISITION_EQUIPMENT: Code = ("109101", "DCM", "Acquisition Equipment")  # CID 7005
SYNTHESIZING_EQUIPMENT: Code = ("109100", "DCM", "Synthesizing Equipment")  # CID 7005, named by C.12.1

TISSUE: Code = ("85756007", "SCT", "Tissue")  # CID 7150
ADIPOSE_TISSUE: Code = ("55603005", "SCT", "Adipose tissue")  # CID 7166
ORGAN_PARENCHYMA: Code = ("91772007", "SCT", "Organ parenchyma")  # CID 7166: no code for fibroglandular tissue
BREAST: Code = ("76752008", "SCT", "Breast")  # CID 4
ARTIFICIAL_INTELLIGENCE: Code = ("123110", "DCM", "Artificial Intelligence")  # CID 7162

SAMPLE_MEAN: Code = ("CFMEAN", OWN_SCHEME, "Mean of counterfactual samples")
SAMPLE_SPREAD: Code = ("CFSPREAD", OWN_SCHEME, "Standard deviation of counterfactual samples")

BREAST_MRI: Code = ("241615005", "SCT", "Magnetic resonance imaging of breast")
MEASUREMENT_REPORT: Code = ("126000", "DCM", "Imaging Measurement Report")  # TID 1500
DEVICE: Code = ("121007", "DCM", "Device")  # CID 270
PROBABILITY: Code = ("122157", "DCM", "Probability")
DERIVATION: Code = ("121401", "DCM", "Derivation")  # of a value, TID 300
PREDICTED: Code = ("PRED", OWN_SCHEME, "Predicted from the pixels")
STATED: Code = ("HDR", OWN_SCHEME, "Stated in the image header")

# Acquisition parameters by keyword. PS3.16 has no code for TE, TR, flip angle and scan options: own scheme.
PARAMETERS: dict[str, Code] = {
    "Manufacturer": ("113878", "DCM", "Device Manufacturer"),
    "ManufacturerModelName": ("113879", "DCM", "Device Model Name"),
    "MagneticFieldStrength": ("130542", "DCM", "Magnetic field strength"),
    "SliceThickness": ("112225", "DCM", "Slice Thickness"),
    "ScanOptions": ("ScanOptions", OWN_SCHEME, "Scan Options"),
    "FlipAngle": ("FlipAngle", OWN_SCHEME, "Flip Angle"),
    "EchoTime": ("EchoTime", OWN_SCHEME, "Echo Time"),
    "RepetitionTime": ("RepetitionTime", OWN_SCHEME, "Repetition Time"),
}
UNITS: dict[str | None, Code] = {
    None: ("1", "UCUM", "no units"),
    "T": ("T", "UCUM", "tesla"),
    "ms": ("ms", "UCUM", "millisecond"),
    "deg": ("deg", "UCUM", "degree"),
    "mm": ("mm", "UCUM", "millimeter"),
}


def code_sequence(*codes: Code) -> Sequence:
    """Items of the Code Sequence Macro (PS3.3 section 8.8)."""
    items = []
    for value, scheme, meaning in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        items.append(item)
    return Sequence(items)


def scheme_identification() -> Sequence:
    """CodingSchemeIdentificationSequence for the own scheme (PS3.3 C.12.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = OWN_SCHEME
    item.CodingSchemeName = "Codes of the Reacquire project"
    return Sequence([item])

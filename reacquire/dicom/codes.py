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

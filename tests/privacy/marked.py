"""A patient whose every text, UID and file name carries a mark that occurs nowhere else; sound and spoilt files."""

import gzip
import io
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pydicom
from builders import make_dataset, make_pixels, to_bytes
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataset import Dataset
from pydicom.uid import UID

from reacquire.dicom.quiet import neutral_warnings

MARK = "ZQXMARK"  # in texts, names, file names
ODD = MARK.encode() + b" "  # breaks most representations, of which pydicom warns with the value
ROOT = "1.2.826.0.1.990099009900"  # of UIDs
MARKS = (MARK, MARK.lower(), "990099009900")

# Texts that no rule of ours needs; a clinical file carries most of them.
TEXTS = (
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames", "PatientAddress", "PatientTelephoneNumbers",
    "PatientMotherBirthName", "PatientReligiousPreference", "Occupation", "MedicalRecordLocator", "PatientComments",
    "AdditionalPatientHistory", "EthnicGroup", "MilitaryRank", "CountryOfResidence", "StudyDescription", "StudyID",
    "SeriesDescription", "AccessionNumber", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "NameOfPhysiciansReadingStudy", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
    "StationName", "DeviceSerialNumber", "ProtocolName", "RequestedProcedureDescription", "RequestingPhysician",
    "PerformedProcedureStepDescription", "PerformedProcedureStepID", "ImageComments", "ContrastBolusAgent",
    "SequenceName", "AdmissionID", "CurrentPatientLocation", "StudyComments", "RequestAttributesSequence",
)  # fmt: skip


def patient(series: int = 1, number: int = 1, **changes: Any) -> Dataset:
    """One slice of the marked patient."""
    texts: dict[str, Any] = {k: f"{MARK}{k}"[:60] for k in TEXTS if k in keyword_dict and not k.endswith("Sequence")}
    texts |= {k: f"{MARK}^{k}"[:60] for k in ("PatientName", "ReferringPhysicianName", "OperatorsName")}
    texts |= {k: text[:16] for k, text in texts.items() if dictionary_VR(k) in ("SH", "CS")}
    uids = {
        "SOPInstanceUID": f"{ROOT}.{series}.{number}",
        "StudyInstanceUID": f"{ROOT}.{series}",
        "SeriesInstanceUID": f"{ROOT}.{series}.0",
        "FrameOfReferenceUID": f"{ROOT}.9",
    }
    place = {"InstanceNumber": number, "ImagePositionPatient": ["-100.5", "-90.25", str(12.5 + 2 * number)]}
    pixels = changes.pop("pixels", make_pixels(128, 160))
    ds = make_dataset(pixels, **{**texts, **uids, **place, **changes})
    ds.file_meta.MediaStorageSOPInstanceUID = UID(uids["SOPInstanceUID"])
    item = Dataset()
    item.RequestedProcedureDescription = f"{MARK} procedure"
    ds.RequestAttributesSequence = [item]
    block = ds.private_block(0x0029, f"{MARK} CSA", create=True)
    block.add_new(0x10, "LO", f"{MARK} private")
    return ds


@neutral_warnings()
def slices(series: int, count: int = 2, **changes: Any) -> list[bytes]:
    """A sound series."""
    return [to_bytes(patient(series, number + 1, **changes)) for number in range(count)]


def packed(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


@lru_cache
@neutral_warnings()
def spoilt() -> dict[str, bytes]:
    """Files that fail in the container, the parser, the checks, the codec, the series rules or the networks."""
    sound = slices(50, 1)[0]
    ds = pydicom.dcmread(io.BytesIO(sound))
    garbled = pydicom.dcmread(io.BytesIO(sound))
    garbled.compress(UID("1.2.840.10008.1.2.4.90"), generate_instance_uid=False)
    garbled = to_bytes(garbled)
    changes: dict[str, dict[str, Any]] = {
        "modality": {"Modality": MARK},
        "body part": {"BodyPartExamined": MARK},
        "image type": {"ImageType": ["ORIGINAL", MARK, "MOSAIC"]},
        "echo time": {"EchoTime": f"1,5{MARK}".encode() + b" "},
        "field": {"MagneticFieldStrength": f"1.5 {MARK}".encode()},
        "uid": {"SOPInstanceUID": f"../../{MARK}".encode()},
        "series uid": {"SeriesInstanceUID": f"{ROOT}.00.{MARK}".encode() + b"\0"},
        "charset": {"SpecificCharacterSet": MARK},
        "charset of a name": {"SpecificCharacterSet": MARK, "PatientID": b"\xff\xfe" + MARK.encode() + b" "},
        "position": {"ImagePositionPatient": f"{MARK}\\1\\2".encode() + b" "},
        "orientation": {"ImageOrientationPatient": ["0", "1", "0", "0", "0", "-1"]},
        "photometric": {"PhotometricInterpretation": MARK},
        "rows": {"Rows": 65535},
        "constant": {"pixels": np.full((128, 160), 7, np.uint16)},
        "no pixels": {"PixelData": b""},
        "synthetic": {"SyntheticData": "YES"},
        "odd values": {
            "PatientID": MARK.encode() * 20,
            "PatientSex": b"zqxmark ",
            **dict.fromkeys(("PatientName", "StudyDate", "PatientBirthDate", "PatientAge", "SeriesNumber"), ODD),
        },
    }
    made = {name: to_bytes(patient(60 + i, **change)) for i, (name, change) in enumerate(changes.items())}
    return made | {
        "text": f"{MARK} is no image".encode(),
        "cut header": sound[:900],
        "cut pixels": sound[:-2000],
        "gzip": gzip.compress(sound),
        "program": b"MZ" + sound[2:],
        "no preamble": sound[132:],
        "garbled codestream": garbled[:-3000] + MARK.encode() * 300,
        "zip that climbs": packed({f"../{MARK}.dcm": sound}),
        "zip of a text": packed({f"{MARK}.txt": MARK.encode()}),
        "zip of two series": packed({f"{MARK}{i}.dcm": slices(90 + i, 1)[0] for i in range(2)}),
        "zip of one": packed({f"{MARK}/a.dcm": to_bytes(ds)}),
    }

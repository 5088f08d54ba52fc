"""One simulated slice as a classic MR DICOM object, and label masks as PNG.

Every identifier is fictional and a function of the cohort's key. The only module of the phantom that knows DICOM.
"""

import struct
import uuid
import zlib
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from reacquire.phantom.pair import Simulated
from reacquire.phantom.protocols import Protocol
from reacquire.physics.signal import GAMMA_MHZ_T

_NAMESPACE = uuid.UUID("5d1c6a3e-9f0e-4b0a-8d57-0d6e0c5f7a11")


def make_uid(name: str) -> UID:
    """A UID under 2.25 (PS3.5 B.2) that depends on ``name`` alone."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


def make_code(name: str) -> int:
    """The five digits that end a folder name of the collection."""
    return uuid.uuid5(_NAMESPACE, name).int % 90000 + 10000


def study_date(woman: int, number: int) -> date:
    """A fictional date of a woman's scan."""
    return date(1990, 1, 1) + timedelta(days=(woman * 37) % 3000 + 400 * number)


def to_dicom(simulated: Simulated, *, woman: int, number: int, index: int, key: str) -> Dataset:
    """The classic MR object of one simulated slice (PS3.3 A.4), with the attributes that a clinical file carries."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance = make_uid(f"{key}/{index}")
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = instance
    siemens = simulated.protocol.is_siemens
    day = f"{study_date(woman, number):%Y%m%d}"
    moment = f"{8 + woman % 9:02d}{(index * 7) % 60:02d}00"
    _identify(dataset, woman, number, key)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, instance
    # The image is a simulated acquisition: pixels made by a programme (PS3.3 C.12.1.1).
    dataset.SyntheticData = "YES"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"] if siemens else ["ORIGINAL", "PRIMARY", "OTHER"]
    for kind in ("InstanceCreation", "Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{kind}Date", day)
        setattr(dataset, f"{kind}Time", moment)
    dataset.AcquisitionNumber, dataset.InstanceNumber = 1, index + 1
    _acquisition(dataset, simulated.protocol)
    _geometry(dataset, simulated)
    _pixels(dataset, simulated.image, siemens)
    return dataset


def _identify(dataset: Dataset, woman: int, number: int, key: str) -> None:
    name = f"Phantom_MRI_{woman + 1:03d}"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = dataset.PatientID = name
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F"
    dataset.PatientAge = f"{30 + (woman * 17) % 45:03d}Y"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Simulated patient"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.StudyID = ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = make_uid(f"{key}/study"), make_uid(f"{key}/series")
    # One frame of reference per woman: her scans are aligned by construction.
    dataset.FrameOfReferenceUID = make_uid(f"{key.rsplit('/', 1)[0]}/frame")
    dataset.PositionReferenceIndicator = ""
    dataset.StudyDescription, dataset.SeriesDescription = "MRI BREAST BILATERAL W AND WO", "ax dyn pre"
    dataset.SeriesNumber = 3 + number
    dataset.BodyPartExamined = "BREAST"
    dataset.ImageLaterality = "B"  # both breasts: 2C for a paired body part (PS3.3 C.7.6.1)
    dataset.Modality = "MR"


def _acquisition(dataset: Dataset, protocol: Protocol) -> None:
    iap = protocol.iap
    dataset.Manufacturer = str(iap["Manufacturer"])
    dataset.ManufacturerModelName = str(iap["ManufacturerModelName"])
    dataset.SoftwareVersions = "reacquire phantom"
    dataset.ScanningSequence = "GR"
    dataset.SequenceVariant = ["SP", "OSP"] if protocol.is_siemens else ["SS", "SP", "SK"]
    dataset.ScanOptions = str(iap["ScanOptions"]).split("\\")
    dataset.MRAcquisitionType = "3D"
    dataset.SequenceName = "*fl3d1" if protocol.is_siemens else "VIBRANT"
    dataset.AngioFlag = "N"
    for keyword in ("SliceThickness", "RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength"):
        setattr(dataset, keyword, _ds(float(iap[keyword])))
    dataset.NumberOfAverages = "1"
    dataset.ImagingFrequency = _ds(GAMMA_MHZ_T * protocol.field_t)
    dataset.ImagedNucleus = "1H"
    dataset.EchoNumbers = "1"
    dataset.NumberOfPhaseEncodingSteps = round(protocol.matrix[1] * protocol.partial_fourier)
    dataset.EchoTrainLength = "1"
    dataset.PercentSampling = _ds(100 * protocol.matrix[1] / protocol.matrix[0])
    dataset.PercentPhaseFieldOfView = "100"
    dataset.PixelBandwidth = _ds(protocol.bandwidth_hz_px)
    dataset.AcquisitionMatrix = [0, protocol.matrix[0], protocol.matrix[1], 0]
    dataset.InPlanePhaseEncodingDirection = "ROW"
    dataset.PatientPosition = "HFP"


def _geometry(dataset: Dataset, simulated: Simulated) -> None:
    z, y, x = simulated.origin_mm
    dataset.ImagePositionPatient = [_ds(x), _ds(y), _ds(z)]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.SliceLocation = _ds(z)
    dataset.PixelSpacing = [_ds(simulated.pixel_spacing_mm)] * 2


def _pixels(dataset: Dataset, image: NDArray[np.int16], siemens: bool) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = 12 if siemens else 16
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0 if siemens else 1
    high = float(np.percentile(image, 99.5))
    dataset.WindowCenter, dataset.WindowWidth = _ds(max(round(high / 2), 1)), _ds(max(round(high), 1))
    dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue = int(image.min()), int(image.max())
    dataset.PixelData = np.ascontiguousarray(image, dtype="<i2").tobytes()


def _ds(value: float) -> str:
    return f"{value:.8g}"


def encode_png(plane: NDArray[np.uint8]) -> bytes:
    """A grey 8-bit PNG of a (R, C) uint8 plane (no imaging library is a dependency of the phantom)."""
    rows, columns = plane.shape
    raw = np.zeros((rows, columns + 1), np.uint8)  # each row starts with filter type 0
    raw[:, 1:] = plane

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw.tobytes(), 6))
        + chunk(b"IEND", b"")
    )

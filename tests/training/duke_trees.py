"""Small trees in the layouts in which the Duke collection is downloaded, typos included; one simulated woman plays all.

Images are block averages of simulated slices, so that a whole tree is written in a moment.
"""

import csv
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import highdicom as hd
import nibabel
import nrrd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from reacquire.phantom import Simulated, make_subject, sample_protocol, sample_scanner, simulate_slice
from reacquire.phantom.mr_object import make_uid, to_dicom

SLICES, BLOCK, STEP_MM = 7, 7, 6.0
MARGIN = 2  # what tests drop at either end
TABLE = "Breast-Cancer-MRI-filepath_filename-mapping.csv"
CLINICAL = "Clinical_and_Other_Features.csv"
STUDY = "MRI BREAST BILATERAL WWO"
SERIES = {  # role -> (number and description on disk, the same in TCIA's table)
    "pre": ("600.000000-ax 3d dyn", "600.000000-ax 3d dyn"),
    "post_1": ("601.000000-Ph1ax 3d dyn", "601.000000-Ph1/ax 3d dyn"),
    "T1": ("3.000000-ax t1 tse c", "3.000000-ax t1 tse +c"),
}
LEGENDS = {
    "Manufacturer": "GE MEDICAL SYSTEMS=0, MPTronic software=1, SIEMENS=2",
    "Manufacturer Model Name": "Avanto=0, Optima MR450w=1, SIGNA EXCITE=2, SIGNA HDx=3",
    "Field Strength (Tesla)": "1.494=0,1.5=1,2.8936=2,3=3",
    "Scan Options": "FS=4,PFP\\FS=5,PFP\\SFS=6",
    "Flip Angle \n": "7=0,8=1,10=2,12=3",
    "Slice Thickness ": "1.1=8,2=18",
    "TE (Echo Time)": "",
    "TR (Repetition Time)": "",
}
CODES = {"Manufacturer": "2", "Manufacturer Model Name": "0", "Field Strength (Tesla)": "1", "Flip Angle \n": "2"}


@lru_cache
def woman() -> tuple[Simulated, ...]:
    """Evenly spaced slices of one woman on an Avanto, feet to head, 64 x 64."""
    subject = make_subject(7)
    rng = np.random.default_rng(0)
    protocol = sample_protocol(rng, protocol_id="S1")
    scanner = sample_scanner(rng, protocol)
    middle = float(np.mean(subject.z_range))
    heights = middle + STEP_MM * (np.arange(SLICES) - SLICES // 2)
    return tuple(
        _small(simulate_slice(subject, float(z), protocol, scanner, noise_seed=i)) for i, z in enumerate(heights)
    )


def _small(full: Simulated) -> Simulated:
    size = full.image.shape[0] // BLOCK
    image = full.image.reshape(size, BLOCK, size, BLOCK).mean((1, 3)).round().astype(np.int16)
    centre = slice(BLOCK // 2, None, BLOCK)
    z, y, x = full.origin_mm
    shift = BLOCK // 2 * full.pixel_spacing_mm
    return replace(
        full, image=image, clean=image.astype(np.float32), labels=full.labels[centre, centre],
        breast=full.breast[centre, centre], pixel_spacing_mm=full.pixel_spacing_mm * BLOCK,
        origin_mm=(z, y + shift, x + shift),
    )  # fmt: skip


def truth() -> NDArray[np.uint8]:
    """(N, R, C) labels in canonical orientation, feet to head."""
    return np.stack([s.labels for s in woman()])


@dataclass(frozen=True)
class Patient:
    """``turned``: stored with both image axes reversed, as the collection's GE scans are."""

    number: int
    turned: bool = False

    @property
    def name(self) -> str:
        return f"Breast_MRI_{self.number:03d}"

    def study_uid(self) -> str:
        return _tcia_uid(f"study {self.number}")

    def series_uid(self, role: str) -> str:
        return _tcia_uid(f"{role} {self.number}")


def _tcia_uid(name: str) -> str:
    return f"1.3.6.1.4.1.14519.5.2.1.{int(str(make_uid(name)).rsplit('.', 1)[1]) % 10**30}"


def dataset(patient: Patient, role: str, index: int, **changes) -> Dataset:
    """One slice; ``changes`` replace attributes."""
    ds = to_dicom(woman()[index], woman=0, number=0, index=index, key=f"{patient.number}/{role}")
    ds.PatientID = ds.PatientName = patient.name
    ds.StudyInstanceUID, ds.SeriesInstanceUID = patient.study_uid(), patient.series_uid(role)
    ds.SeriesDescription = SERIES[role][1].split("-", 1)[1]
    if patient.turned:
        ds.PixelData = ds.pixel_array[::-1, ::-1].tobytes()
        size = ds.Rows - 1
        ds.ImagePositionPatient = [
            float(p) + size * float(ds.PixelSpacing[0]) * (i < 2) for i, p in enumerate(ds.ImagePositionPatient)
        ]
        ds.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def series_folder(root: Path, layout: str, patient: Patient, role: str) -> Path:
    """Where a download of that layout puts a series."""
    uid, study = patient.series_uid(role), patient.study_uid()
    if layout == "classic":
        return root / "manifest-1607053360376" / "Duke-Breast-Cancer-MRI" / patient.name / study / uid
    if layout == "idc":
        return root / "duke_breast_cancer_mri" / patient.name / study / f"MR_{uid}"
    names = f"01-01-1990-NA-{STUDY}-{study[-5:]}", f"{SERIES[role][0]}-{uid[-5:]}"
    return root / "manifest-1654812109500" / "Duke-Breast-Cancer-MRI" / patient.name / names[0] / names[1]


def write_patient(root: Path, layout: str, patient: Patient, roles: tuple[str, ...] = tuple(SERIES), **changes) -> None:
    """The patient's series; files in reverse order of position, because names must not matter."""
    for role in roles:
        folder = series_folder(root, layout, patient, role)
        folder.mkdir(parents=True)
        for i in range(SLICES):
            ds = dataset(patient, role, i, **(changes if role == "pre" else {}))
            name = f"{make_uid(f'{role}{i}')}.dcm" if layout == "idc" else f"1-{SLICES - i:02d}.dcm"
            ds.save_as(folder / name, enforce_file_format=True)


def write_table(root: Path, patients: list[Patient], *, uids: bool = True, drop: str | None = None) -> Path:
    """TCIA's file path table with its slips; without ``uids`` the classic column is of no use, so paths decide."""
    names = ["original_path_and_filename", "classic_path", "descriptive_path", "sop_instance_UID"]
    lines = []
    for patient in patients:
        for role, (_, described) in SERIES.items():
            uid, study = patient.series_uid(role), patient.study_uid()
            for i in (1, 2):
                lines.append({
                    names[0]: f"DICOM_Images/{patient.name}/{role}/{patient.name}_{role}_{i:03d}.dcm",
                    names[1]: f"Duke-Breast-Cancer-MRI/{patient.name}/{study}/{uid if uids else '1.2.3'}/1-{i:03d}.dcm",
                    names[2]: f"Duke-Breast-Cancer-MRI/{patient.name.replace('_', '')}/01-01-1990-MRI BREAST BILATERAL "
                    f"W/WO-{study[-5:]}/{described}-{uid[-5:]}//1-{i:03d}.dcm",
                    names[3]: "1.2.3",
                })  # fmt: skip
    kept = [n for n in names if n != drop]
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
    return root / TABLE


def clinical_rows(patients: list[Patient], drop: str | None = None, **cells: str) -> list[list[str]]:
    """The clinical table: groups, names, codes, patients; ``cells`` replace values by the name's first letters."""
    iap = woman()[0].protocol.iap
    names = [n for n in LEGENDS if n != drop]
    values = CODES | {
        "Scan Options": "5" if iap["ScanOptions"] == "PFP\\FS" else "6",
        "Slice Thickness ": "8" if iap["SliceThickness"] == 1.1 else "18",
        "TE (Echo Time)": str(iap["EchoTime"]),
        "TR (Repetition Time)": str(iap["RepetitionTime"]),
    }
    values |= {n: v for n in names for k, v in cells.items() if n.startswith(k)}
    return [
        ["Patient Information", "MRI Technical Information", *[""] * (len(names) - 1)],
        ["Patient ID", *names],
        ["", *(LEGENDS[n] for n in names)],
        *([p.name, *(values[n] for n in names)] for p in patients),
    ]


def write_clinical(root: Path, patients: list[Patient], drop: str | None = None, **cells: str) -> Path:
    with (root / CLINICAL).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(clinical_rows(patients, drop, **cells))
    return root / CLINICAL


def grid() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Labels (column, row, slice) and their affine in LPS millimetres, as 3D Slicer would hold them."""
    first = woman()[0]
    z, y, x = first.origin_mm
    affine = np.diag([first.pixel_spacing_mm, first.pixel_spacing_mm, STEP_MM, 1.0])
    affine[:3, 3] = x, y, z
    return truth().transpose(2, 1, 0), affine


def write_nrrd(folder: Path, patient: Patient, *, swapped: bool = False, layered: bool = False) -> None:
    """Two files as Duke's: breast; dense tissue and vessels, whose values or layers are not always in one order."""
    labels, affine = grid()
    start = [int(i.min()) for i in np.nonzero(labels)]  # 3D Slicer cuts off what is empty
    labels = labels[tuple(slice(s, None) for s in start)]
    affine = affine @ np.block([[np.eye(3), np.array(start, float)[:, None]], [np.zeros(3), 1.0]])
    header = {"space": "left-posterior-superior", "space origin": affine[:3, 3]}
    breast = {**header, "space directions": affine[:3, :3].T, "Segment0_Name": "Breast", "Segment0_LabelValue": "1"}
    where = folder / patient.name
    where.mkdir(parents=True, exist_ok=True)
    nrrd.write(str(where / f"Segmentation_{patient.name}_Breast.seg.nrrd"), (labels > 0).astype(np.uint8), breast)
    dense, vessels = (1, 2) if swapped else (2, 1)
    array = (labels == 2).astype(np.uint8) * dense
    array[0, 0, 0] = vessels
    directions = affine[:3, :3].T
    second = {**header, "Segment0_Name": "Dense", "Segment0_LabelValue": str(dense), "Segment1_Name": "Vessels",
              "Segment1_LabelValue": str(vessels)}  # fmt: skip
    if layered:
        array = np.stack([array == vessels, (array == dense) * dense]).astype(np.uint8)
        second |= {"Segment0_Layer": "1", "Segment1_Layer": "0", "Segment1_LabelValue": "1"}
        directions = np.vstack([[np.nan] * 3, directions])
    path = where / f"Segmentation_{patient.name}_Dense_and_Vessels.seg.nrrd"
    nrrd.write(str(path), array, {**second, "space directions": directions})


def write_nifti(folder: Path, patient: Patient, *, turned_without_saying: bool = False, shift_mm: float = 0.0) -> Path:
    """One file with the values of the paper's authors; stored with other axes than the image."""
    labels, affine = grid()
    if turned_without_saying:
        labels = labels[::-1, ::-1]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    affine[2, 3] += shift_mm
    image = nibabel.Nifti1Image(np.ascontiguousarray(labels), affine).as_reoriented([[2, 1], [0, -1], [1, 1]])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{patient.name}.nii.gz"
    nibabel.save(image, path)
    return path


def write_seg(folder: Path, patient: Patient) -> Path:
    """A DICOM SEG whose frames are turned by 180 degrees against the images, and say so; from head to feet."""
    labels = truth()[::-1, ::-1, ::-1]
    sources = [dataset(patient, "pre", i, PatientName="Phantom^") for i in range(SLICES)][::-1]
    for source in sources:
        source.SliceThickness = STEP_MM
    first = woman()[0]
    far = (labels.shape[1] - 1) * first.pixel_spacing_mm
    positions = [
        hd.PlanePositionSequence(
            "PATIENT", [s.origin_mm[2] + far, s.origin_mm[1] + far, s.origin_mm[0]]
        )
        for s in woman()[::-1]
    ]  # fmt: skip
    descriptions = [
        hd.seg.SegmentDescription(n, label, codes.SCT.Tissue, codes.SCT.Breast, "MANUAL")
        for n, label in ((1, "Breast"), (2, "FGT"))
    ]
    segmentation = hd.seg.Segmentation(
        sources, np.stack([labels > 0, labels == 2], axis=-1), "BINARY", descriptions, hd.UID(), 900, hd.UID(), 1,
        "tests", "tests", "1", "1", content_label="SEG", omit_empty_frames=False,
        pixel_measures=hd.PixelMeasuresSequence([first.pixel_spacing_mm] * 2, STEP_MM, STEP_MM),
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", [-1, 0, 0, 0, -1, 0]), plane_positions=positions,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "1-1.dcm"
    segmentation.save_as(path)
    return path

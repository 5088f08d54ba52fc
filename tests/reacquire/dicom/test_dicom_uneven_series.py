"""Every instance of a derived series carries the same attributes, however unevenly its sources are filled in."""

import numpy as np
import pytest
from builders import ABSENT, BIG_ENDIAN, IMPLICIT, J2K_LOSSY, make_mr, make_pixels, read_back

from reacquire.dicom import Form, Provenance, read_slice, write_series
from reacquire.errors import DatasetError

PROVENANCE = Provenance("b", "1", "ab" * 32, "0", target={"EchoTime": 2.0, "FlipAngle": 12.0, "ScanOptions": "FS"})
UNEVEN = [
    {"PatientAge": "050Y", "SliceLocation": "1", "AcquisitionTime": "101112", "Laterality": "L", "SeriesNumber": 7},
    {
        "BodyPartExamined": b"breast",
        "FlipAngle": ABSENT,
        "EchoTime": ABSENT,
        "ScanOptions": ABSENT,
        "StudyDate": b"***",
        "SeriesNumber": ABSENT,
    },
    {"SequenceVariant": ABSENT, "ScanningSequence": ABSENT, "ContrastBolusAgent": "agent", "PatientAge": b"old "},
    {
        "MagneticFieldStrength": ABSENT,
        "StudyDescription": ABSENT,
        "PatientIdentityRemoved": "YES",
        "SeriesNumber": b"x ",
    },
    {"ScanningSequence": ["GR", "IR"], "InversionTime": "900", "DeidentificationMethod": "by hand"},
    {"PatientName": "Müller^Ä", "SpecificCharacterSet": "ISO_IR 100", "syntax": BIG_ENDIAN},
    {"syntax": IMPLICIT, "PixelPaddingValue": 100},
    {"syntax": J2K_LOSSY},
]


def make_uneven() -> list:
    return [
        read_slice(
            make_mr(
                make_pixels(96, 96),
                SOPInstanceUID=f"1.2.3.4.{n + 1}",
                ImagePositionPatient=["-100.5", "-90.25", str(2 * n)],
                **changes,
            )
        )
        for n, changes in enumerate(UNEVEN)
    ]


@pytest.mark.parametrize(
    "form",
    [
        *(Form(header_values=p) for p in ("target", "source", "blank")),
        Form(output_class="secondary-capture"),
        Form(watermark=True, uid_root="1.2.3"),
    ],
    ids=repr,
)
def test_every_instance_has_the_same_attributes(form):
    slices = make_uneven()
    images = [s.pixels.astype(np.int32) for s in slices]
    derived = [read_back(d) for d in write_series(slices, images, provenance=PROVENANCE, form=form)]
    assert len({frozenset(ds.keys()) for ds in derived}) == 1
    for keyword in (
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
        "SeriesDate",
        "SeriesTime",
        "Manufacturer",
    ):
        assert len({str(ds[keyword].value) for ds in derived}) == 1, keyword
    assert len({(ds.WindowCenter, ds.WindowWidth, ds.LargestPixelValueInSeries) for ds in derived}) == 1


def test_what_only_some_sources_know_is_neither_invented_nor_lost_without_need():
    slices = make_uneven()
    images = [s.pixels.astype(np.int32) for s in slices]
    form = Form(header_values="source")
    derived = [read_back(d) for d in write_series(slices, images, provenance=PROVENANCE, form=form)]
    assert not any(k in derived[0] for k in ("PatientAge", "FlipAngle", "SliceLocation", "PixelPaddingValue"))
    assert [ds["EchoTime"].is_empty for ds in derived] == [n == 1 for n in range(8)]
    assert [ds.ContrastBolusAgent for ds in derived] == ["", "", "agent", "", "", "", "", ""]
    assert [ds.ScanningSequence for ds in derived] == ["GR", "GR", "RM", "GR", ["GR", "IR"], "GR", "GR", "GR"]
    assert [ds.DeidentificationMethod for ds in derived][3:5] == ["Not stated by the source", "by hand"]
    assert [str(ds.PatientName) for ds in derived][4:6] == ["SECRET^Name", "Müller^Ä"]
    assert {ds.SpecificCharacterSet for ds in derived} == {"ISO_IR 100"}
    assert {ds.LossyImageCompression for ds in derived} == {"01"}
    assert {ds.BodyPartExamined for ds in derived} == {"BREAST"}


def test_differently_stored_slices_share_one_format():
    plain = read_slice(make_mr())
    rescaled = read_slice(make_mr(SOPInstanceUID="1.2.3.4.2", RescaleSlope="2", RescaleIntercept="-300"))
    images = [plain.pixels.astype(np.int32), rescaled.pixels.astype(np.int32)]
    derived = [read_back(d) for d in write_series([plain, rescaled], images, provenance=PROVENANCE)]
    assert [(ds.BitsStored, ds.PixelRepresentation) for ds in derived] == [(16, 1)] * 2
    assert all(np.array_equal(ds.pixel_array, image) for ds, image in zip(derived, images, strict=True))


def test_slices_that_no_format_holds_are_refused():
    signed = read_slice(make_mr(PixelRepresentation=1, BitsStored=16, HighBit=15))
    unsigned = read_slice(make_mr(SOPInstanceUID="1.2.3.4.2", BitsStored=16, HighBit=15))
    images = [signed.pixels.astype(np.int32) - 5000, unsigned.pixels.astype(np.int32) + 40000]
    with pytest.raises(DatasetError) as caught:
        write_series([signed, unsigned], images, provenance=PROVENANCE)
    assert caught.value.code == "inconsistent-series"

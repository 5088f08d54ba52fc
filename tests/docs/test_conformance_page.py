"""docs/conformance.md against the code: syntaxes, contexts, attributes of created objects, codes, policies."""

import io
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from builders import make_mr, make_series
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from gateway.dimse import PDU_BYTES, transfer_syntaxes
from reacquire.dicom import Provenance, codes, read_slice
from reacquire.dicom.segmentation import write_segmentation
from reacquire.dicom.syntaxes import SYNTAXES
from reacquire.dicom.synthetic import PRIVATE_CREATOR, Form
from reacquire.dicom.write import write_series
from reacquire.pacs.config import ScpConfig, Site, Timeouts

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
PROVENANCE = Provenance("b", "1.0.0", "0" * 64, "1", target={"EchoTime": 2.4}, source={"EchoTime": 1.42})
OPTIONAL = {  # everything that a source can bring beyond a sound slice
    "SpecificCharacterSet": "ISO_IR 100",
    "IssuerOfPatientID": "x",
    "PatientAge": "050Y",
    "PatientSize": "1.6",
    "PatientWeight": "60",
    "PatientIdentityRemoved": "YES",
    "SliceLocation": "1",
    "SpacingBetweenSlices": "1",
    "AcquisitionDate": "20200101",
    "AcquisitionTime": "101010",
    "AcquisitionNumber": 1,
    "ContrastBolusAgent": "x",
    "ScanningSequence": "IR",
    "InversionTime": "100",
    "LossyImageCompression": "01",
    "LossyImageCompressionRatio": "1",
    "LossyImageCompressionMethod": "ISO_10918_1",
    "PixelPaddingValue": 0,
    "PixelPaddingRangeLimit": 1,
}


def section(title: str) -> str:
    return re.split(r"\n## ", PAGE.split(f"\n## {title}\n")[1])[0]


def rows(text: str, columns: int) -> list[list[str]]:
    cells = [[c.strip() for c in line[1:-1].split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return [row for row in cells if len(row) == columns]


def issued() -> dict:
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "x"
    return {"IssuerOfAccessionNumberSequence": [issuer]}


def written(output_class: str) -> Dataset:
    source = read_slice(make_mr(**OPTIONAL, **issued()))
    pixels = source.pixels.astype(np.int32)
    (file,) = write_series([source], [pixels], provenance=PROVENANCE, form=Form(output_class=output_class))
    return pydicom.dcmread(io.BytesIO(file))


ATTRIBUTES = {row[0].strip("`"): row for row in rows(section("Created objects"), 5) if row[0].startswith("`")}


@pytest.mark.parametrize(("output_class", "column"), [("mr", 2), ("secondary-capture", 3)])
def test_attributes_of_a_counterfactual_are_those_that_are_written(output_class: str, column: int) -> None:
    ds = written(output_class)
    listed = {keyword for keyword, row in ATTRIBUTES.items() if row[column] == "x"}
    assert {element.keyword for element in ds if not element.tag.is_private} == listed


def test_tags_are_those_of_the_dictionary() -> None:
    for keyword, row in ATTRIBUTES.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None and row[1] == f"({tag >> 16:04X},{tag & 0xFFFF:04X})", keyword


def test_fixed_values_are_those_that_are_written() -> None:
    ds = written("mr")
    for keyword in ("SyntheticData", "ImageType", "ContentQualification", "BurnedInAnnotation", "ImageComments"):
        value = ds[keyword].value
        text = value if isinstance(value, str) else "\\".join(value)
        assert f"`{text}`" in ATTRIBUTES[keyword][4]
    assert ds.Manufacturer in ATTRIBUTES["Manufacturer"][4]
    assert written("secondary-capture").ConversionType in ATTRIBUTES["ConversionType"][4]


def test_the_private_block_is_the_one_that_is_written() -> None:
    ds = written("mr")
    assert f"`{PRIVATE_CREATOR}`" in PAGE
    assert {e.tag for e in ds if e.tag.is_private} == {0x00990010, 0x00991001}
    assert ds[0x0099, 0x1001].VR == "UT"


def test_transfer_syntaxes_are_those_of_the_code() -> None:
    listed = {row[0]: row[1:] for row in rows(section("Transfer syntaxes"), 4) if row[0][0].isdigit()}
    accepted = set(transfer_syntaxes())
    assert listed == {uid: [s.name, "yes", "yes" if uid in accepted else "no"] for uid, s in SYNTAXES.items()}


def test_policies_are_those_of_the_configuration() -> None:
    policies = {row[0]: row[1] for row in rows(section("C-STORE SCP (`reacquire scp`)"), 2)}
    scp, times = ScpConfig(), Timeouts()
    assert f"`{scp.ae_title}`" in policies["AE title"]
    assert policies["associations at a time"].startswith(f"{scp.most_associations} ")
    assert policies["largest PDU"].startswith(f"{PDU_BYTES} ")
    assert policies["address and port"].startswith(f"{scp.host}:{scp.port} ")
    assert f"{scp.idle_s:.0f} s (`scp.idle_s`)" in PAGE
    assert f"{scp.patience_s:.0f} s (`scp.patience_s`)" in PAGE
    assert "(`series_quiet_s`" in PAGE or f"`series_quiet_s` ({scp.series_quiet_s:.0f} s" in PAGE
    agent = section("DICOMweb user agent (the courier)")
    assert f"{times.connect_s:.0f} s\nto connect" in agent or f"{times.connect_s:.0f} s to connect" in agent
    assert f"{times.read_s:.0f} s between bytes, {times.total_s:.0f} s in all" in agent
    assert f"{Site.model_fields['attempts'].default} attempts" in agent


@pytest.mark.parametrize("field", sorted(set(re.findall(r"`scp\.(\w+)`", PAGE))))
def test_settings_of_the_scp_exist(field: str) -> None:
    assert field in ScpConfig.model_fields


def test_codes_of_our_own_are_all_listed() -> None:
    own = [c for c in vars(codes).values() if isinstance(c, tuple) and len(c) == 3 and c[1] == codes.OWN_SCHEME]
    own += [c for c in codes.PARAMETERS.values() if c[1] == codes.OWN_SCHEME]
    listed = {row[0]: row[1] for row in rows(PAGE.split("### Codes of our own")[1].split("\n## ")[0], 2)[1:]}
    assert {value: meaning for value, _, meaning in own} == {k: v for k, v in listed.items() if k[0] != "-"}


def test_the_segmentation_is_as_described() -> None:
    sources = [read_slice(data) for data in make_series(2)]
    mask = np.zeros((2, *sources[0].pixels.shape), np.uint8)
    mask[:, 10:20, 10:20], mask[:, 12:14, 12:14] = 1, 2
    seg = pydicom.dcmread(io.BytesIO(write_segmentation(sources, mask, algorithm=("a", "1"))))
    described = dict(rows(PAGE.split("### Segmentation")[1].split("### Report")[0], 2))
    for segment in seg.SegmentSequence:
        assert f"{segment.SegmentNumber} `{segment.SegmentLabel}`" in described["`SegmentLabel`"]
        for keyword in (
            "SegmentedPropertyCategoryCodeSequence",
            "SegmentedPropertyTypeCodeSequence",
            "AnatomicRegionSequence",
        ):
            (item,) = segment[keyword].value
            code = f'({item.CodeValue}, {item.CodingSchemeDesignator}, "{item.CodeMeaning}")'
            assert code in described[f"`{keyword}`"]
    assert f"`{seg.ContentLabel}`" == described["`ContentLabel`"]
    assert seg.SeriesNumber == 8007

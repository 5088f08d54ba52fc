"""Rules: what a pattern means, what is never taken, and which files are refused when they are loaded."""

from pathlib import Path
from typing import Any

import pytest
from builders import SECRET, make_dataset
from pydantic import ValidationError
from pydicom.datadict import tag_for_keyword

from reacquire.pacs.config import PacsConfig, Rule
from reacquire.pacs.rules import Verdict, attributes_of_dataset, attributes_of_json, judge, matching, needed, refusal

ROOT = Path(__file__).resolve().parents[3]
SEGMENT: list[dict[str, Any]] = [{"operation": "segment"}]
MR = {"Modality": ("MR",)}


def rule(name: str = "r", **changes: Any) -> Rule:
    return Rule.model_validate({"name": name, "when": {"Modality": "MR"}, "do": SEGMENT, **changes})


def takes(when: dict[str, Any], **attributes: str | tuple[str, ...]) -> bool:
    values = {k: (v,) if isinstance(v, str) else v for k, v in attributes.items()}
    return bool(matching([rule(when=when)], values))


def to_json(ds) -> dict[str, Any]:
    return ds.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=lambda _: "http://bulk")


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("*dyn*", "T1 DYNAMIC post", True),
        ("t1?fl", "T1_FL", True),
        ("t1", "t1 dynamic", False),
        ("dynamic", "t1 dynamic", False),
        ("*[pre]*", "t1 [pre] fs", True),
        ("*[pre]*", "t1 pre fs", False),
        ("a.c", "abc", False),
        ("*", "anything", True),
        ("3", "3.0", True),
        ("1.5", "1.50000", True),
        ("1.5", "1.494", False),
        ("nan", "nan", True),
        ("nan", "inf", False),
    ],
)
def test_a_pattern_is_a_glob_over_the_whole_value_and_numbers_are_numbers(pattern, value, fits):
    assert takes({"SeriesDescription": pattern}, SeriesDescription=value) is fits


def test_one_pattern_and_one_value_are_enough_but_every_keyword_must_match():
    when = {"ImageType": ["M", "NORM"], "Manufacturer": "siemens*"}
    assert takes(when, ImageType=("ORIGINAL", "PRIMARY", "M"), Manufacturer="SIEMENS")
    assert not takes(when, ImageType=("ORIGINAL", "PRIMARY", "M"), Manufacturer="GE MEDICAL SYSTEMS")
    assert not takes(when, ImageType=("ORIGINAL", "PRIMARY"), Manufacturer="SIEMENS")
    assert not takes(when, ImageType=("ORIGINAL", "PRIMARY", "M"))


def test_matches_come_in_the_order_of_the_file_with_the_position_of_each_action():
    do = [{"operation": "segment"}, {"operation": "counterfactual", "target": {"EchoTime": 2.4}}]
    rules = [rule("a", do=do), rule("b"), rule("c", when={"Modality": "CT"})]
    assert [(r.name, i, a.operation) for r, i, a in matching(rules, MR)] == [
        ("a", 0, "segment"),
        ("a", 1, "counterfactual"),
        ("b", 0, "segment"),
    ]


def test_a_small_series_is_left_alone_and_frames_count_as_slices():
    rules = [rule(least_instances=3)]
    assert judge(rules, [MR] * 2) == Verdict("unmatched", "no-rule")
    assert judge(rules, [MR] * 3).outcome == "matched"
    assert judge(rules, [MR], instances=3).outcome == "matched"
    assert judge(rules, [{**MR, "NumberOfFrames": ("3",)}]).outcome == "matched"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SyntheticData": ("YES",)}, "already-synthetic"),
        ({"SyntheticData": ("yes",)}, "already-synthetic"),
        ({"ImageType": ("DERIVED", "SECONDARY", "OTHER", "SYNTHETIC", "COUNTERFACTUAL")}, "already-synthetic"),
        ({"Manufacturer": ("Reacquire",), "Modality": ("SEG",)}, "already-synthetic"),
        ({"Modality": ("SEG",)}, "unsupported-modality"),
        ({"Modality": ()}, "unsupported-modality"),
        ({"SyntheticData": ("NO",), "Manufacturer": ("SIEMENS",)}, None),
    ],
)
def test_what_is_ours_or_synthetic_or_no_mr_is_never_taken(change, reason):
    attributes = {**MR, **change}
    assert refusal(attributes) == reason
    verdict = judge([rule(when={"Modality": "*"})], [MR, attributes, MR])
    assert (verdict.outcome, verdict.reason) == (("refused", reason) if reason else ("matched", None))


def test_a_series_that_is_not_there_is_refused():
    assert judge([rule()], []) == Verdict("refused", "source-not-found")


def test_a_data_set_and_its_json_say_the_same():
    ds = make_dataset(PatientName="SECRET^Äneas", SpecificCharacterSet="ISO_IR 192", NumberOfFrames="1")
    keywords = needed([rule(when={k: "*" for k in ("MagneticFieldStrength", "PatientName", "SeriesNumber", "Rows")})])
    assert {"SyntheticData", "ImageType", "Modality", "Manufacturer"} <= keywords
    of_dataset, of_json = attributes_of_dataset(ds, keywords), attributes_of_json(to_json(ds), keywords)
    assert of_dataset["ImageType"] == of_json["ImageType"] == ("ORIGINAL", "PRIMARY", "M")
    assert of_dataset["PatientName"] == of_json["PatientName"] == ("SECRET^Äneas",)
    assert "SyntheticData" not in of_dataset and "SyntheticData" not in of_json
    same = rule(when={"MagneticFieldStrength": "2.8936", "PatientName": "secret*", "SeriesNumber": "7", "Rows": "48"})
    assert matching([same], of_dataset) == matching([same], of_json) != []


@pytest.mark.parametrize("element", [None, [], {}, {"vr": "CS"}, {"vr": "CS", "Value": None}, {"Value": [None, ""]}, 7])
def test_odd_json_counts_as_absent(element):
    tag = f"{tag_for_keyword('Modality'):08X}"
    assert attributes_of_json({tag: element}, ["Modality"]) == {}


def test_an_unreadable_value_counts_as_absent_and_is_not_quoted(recwarn):
    ds = make_dataset(MagneticFieldStrength=b"SECRET T", Rows=b"\x01")
    assert attributes_of_dataset(ds, ["MagneticFieldStrength", "Rows", "Modality"])["Modality"] == ("MR",)
    assert not [w for w in recwarn if SECRET in str(w.message)]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"when": {"Modalty": "MR"}}, "not a DICOM keyword"),
        ({"when": {"SourceImageSequence": "*"}}, "cannot be compared"),
        ({"when": {"PixelData": "*"}}, "cannot be compared"),
        ({"when": {}}, "at least 1"),
        ({"when": {"Modality": []}}, "at least 1"),
        ({"when": {"Modality": True}}, "valid string"),
        ({"do": []}, "at least 1"),
        ({"do": [{"operation": "counterfactual"}]}, "needs a target"),
        ({"do": [{"operation": "segment", "target": {"EchoTime": 2}}]}, "needs a target"),
        ({"do": [{"operation": "counterfactual", "target": {"EchoTime": 500}}]}, "EchoTime must be"),
        ({"do": [{"operation": "counterfactual", "target": {"Kernel": 1}}]}, "unknown parameter"),
        ({"do": [{"operation": "segment", "options": {"allow_synthetic": True}}]}, "would come back"),
        ({"return_to": "elsewhere"}, "there is no site"),
        ({"least_instance": 3}, "Extra inputs"),
    ],
)
def test_a_wrong_rule_is_refused_when_the_file_is_loaded(change, hint):
    entry = {"name": "r", "when": {"Modality": "MR"}, "do": SEGMENT, **change}
    with pytest.raises(ValidationError, match=hint):
        PacsConfig.model_validate({"rules": [entry]})


def test_yaml_numbers_are_patterns():
    assert rule(when={"MagneticFieldStrength": 3, "SeriesNumber": [7, 8]}).when == {
        "MagneticFieldStrength": "3",
        "SeriesNumber": ["7", "8"],
    }

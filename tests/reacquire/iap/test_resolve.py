"""Where each value of a counterfactual comes from."""

import pytest

from reacquire.errors import TargetError
from reacquire.iap import load_vocabulary, resolve_target

VOCABULARY = load_vocabulary()
AVANTO = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Avanto", "EchoTime": 1.4}


def resolve(target: dict, header: dict | None = None, predicted: dict | None = None):
    return resolve_target(VOCABULARY, target=target, header=header or {}, predicted=predicted or {})


def test_target_then_header_then_predictor() -> None:
    resolved = resolve(
        {"FlipAngle": 12.0}, {"FlipAngle": 10.0, "EchoTime": 1.4}, {"EchoTime": 2.4, "SliceThickness": 2.0}
    )
    assert resolved.values == {"FlipAngle": 12.0, "EchoTime": 1.4, "SliceThickness": 2.0}
    assert resolved.provenance["FlipAngle"] == "target"
    assert resolved.provenance["EchoTime"] == "header"
    assert resolved.provenance["SliceThickness"] == "predicted"
    assert resolved.provenance["RepetitionTime"] == "unknown"


def test_a_model_implies_its_manufacturer() -> None:
    resolved = resolve({"ManufacturerModelName": "SIGNA HDx"}, AVANTO)
    assert resolved.values["Manufacturer"] == "GE MEDICAL SYSTEMS"
    assert resolved.provenance["Manufacturer"] == "implied"


def test_a_header_model_implies_its_manufacturer_too() -> None:
    resolved = resolve({}, {"ManufacturerModelName": "Skyra"}, {"Manufacturer": "GE MEDICAL SYSTEMS"})
    assert resolved.values == {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Skyra"}
    assert resolved.provenance["Manufacturer"] == "implied"


def test_a_target_manufacturer_drops_the_slices_own_model() -> None:
    resolved = resolve({"Manufacturer": "GE MEDICAL SYSTEMS"}, AVANTO)
    assert "ManufacturerModelName" not in resolved.values
    assert resolved.provenance["ManufacturerModelName"] == "unknown"


def test_a_manufacturer_without_a_known_model_stays() -> None:
    assert resolve({}, {"Manufacturer": "SIEMENS"}).values == {"Manufacturer": "SIEMENS"}


def test_a_predicted_model_gives_way_to_the_header_manufacturer() -> None:
    resolved = resolve({}, {"Manufacturer": "SIEMENS"}, {"ManufacturerModelName": "SIGNA HDx"})
    assert resolved.values == {"Manufacturer": "SIEMENS"}


def test_a_contradictory_header_loses_its_model() -> None:
    header = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "SIGNA HDx"}
    assert resolve({}, header).values == {"Manufacturer": "SIEMENS"}


def test_contradictory_targets_are_refused() -> None:
    with pytest.raises(TargetError):
        resolve({"Manufacturer": "SIEMENS", "ManufacturerModelName": "SIGNA HDx"})

"""Support: how far a parameter set lies from what training saw."""

from pathlib import Path

import pytest

from reacquire.bundles.manifest import TrainedScanner, read_manifest
from reacquire.iap import load_vocabulary, support_of

VOCABULARY = load_vocabulary()
AVANTO = {"ManufacturerModelName": "Avanto", "MagneticFieldStrength": 1.5}
TRAINED = [
    TrainedScanner(categories=AVANTO, ranges={"FlipAngle": (10.0, 12.0), "EchoTime": (1.3, 1.5)}),
    TrainedScanner(
        categories={"ManufacturerModelName": "Skyra", "MagneticFieldStrength": 3.0}, ranges={"FlipAngle": (7.0, 8.0)}
    ),
]


def test_inside_the_ranges_of_a_trained_scanner_is_full_support() -> None:
    support = support_of({**AVANTO, "FlipAngle": 11.0, "EchoTime": 1.4}, TRAINED, VOCABULARY)
    assert (support.score, support.notes) == (1.0, ())


def test_a_combination_that_was_never_seen_has_none() -> None:
    support = support_of({**AVANTO, "MagneticFieldStrength": 3.0}, TRAINED, VOCABULARY)
    assert support.score == 0
    assert "never trained on" in support.notes[0]


def test_a_number_outside_lowers_the_score_with_its_distance() -> None:
    scores = [support_of({**AVANTO, "FlipAngle": angle}, TRAINED, VOCABULARY).score for angle in (10.0, 9.0, 8.0)]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    span = VOCABULARY["FlipAngle"].maximum - VOCABULARY["FlipAngle"].minimum
    assert scores[1] == pytest.approx(1 - 1 / span, abs=1e-4)
    assert "10 to 12" in support_of({**AVANTO, "FlipAngle": 9.0}, TRAINED, VOCABULARY).notes[0]


def test_what_is_unknown_fits_the_nearest_scanner() -> None:
    assert support_of({"FlipAngle": 7.5}, TRAINED, VOCABULARY).score == 1
    assert support_of({}, TRAINED, VOCABULARY).score == 1


def test_a_bundle_that_lists_nothing_says_nothing() -> None:
    assert support_of({"FlipAngle": 7.5}, [], VOCABULARY) is None


def test_a_contradiction_is_named_and_no_value_is() -> None:
    record = {"ManufacturerModelName": "Avanto", "MagneticFieldStrength": 3.0}
    notes = support_of(record, TRAINED, VOCABULARY).notes
    assert notes[1:] == (
        "ManufacturerModelName and MagneticFieldStrength contradict each other: no scanner of training has both",
    )
    unknown = support_of({**AVANTO, "ManufacturerModelName": "Signa HDx"}, TRAINED, VOCABULARY).notes
    assert unknown[1:] == ("ManufacturerModelName: no scanner of training has this value",)
    assert "Signa" not in "".join(unknown)


def test_the_shipped_bundle_names_a_ge_scanner_with_siemens_options() -> None:
    trained = read_manifest(Path(__file__).resolve().parents[3] / "bundles" / "phantom-v1").trained_on
    ge = next(t.categories for t in trained if t.categories["ManufacturerModelName"] == "Signa HDxt")
    assert support_of(ge, trained, VOCABULARY).score == 1
    support = support_of({**ge, "ScanOptions": "PFP\\SFS"}, trained, VOCABULARY)
    assert support.score == 0
    assert any("ManufacturerModelName and ScanOptions contradict" in note for note in support.notes)

"""The vocabulary: what it holds, what it refuses, what it leaves unknown."""

import math

import pytest

from reacquire.errors import BundleError, TargetError
from reacquire.iap import Categorical, Continuous, load_vocabulary

VOCABULARY = load_vocabulary()
PINNED = "e0731108bfc0bdf59eaaa5a3a9caa6bc0c06d721eb9b7a19e895604f69eed044"


def test_edition_is_pinned() -> None:
    assert VOCABULARY.sha256 == PINNED, (
        "the data changed: give the vocabulary a new name, released bundles pin this one"
    )


def test_keywords_are_those_of_the_paper() -> None:
    assert VOCABULARY.keywords == (
        "Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "ScanOptions", "FlipAngle", "SliceThickness",
        "EchoTime", "RepetitionTime",
    )  # fmt: skip


def test_every_model_has_a_manufacturer_of_the_vocabulary() -> None:
    models = VOCABULARY["ManufacturerModelName"]
    makers = VOCABULARY["Manufacturer"]
    assert isinstance(models, Categorical) and isinstance(makers, Categorical)
    assert {VOCABULARY.manufacturer_of(m) for m in models.categories} == set(makers.categories)


def test_ranges_are_those_of_section_4() -> None:
    ranges = {p.symbol: (p.minimum, p.maximum) for p in VOCABULARY.parameters if isinstance(p, Continuous)}
    assert ranges == {"FA": (7, 12), "ST": (1.1, 2.5), "TE": (1.25, 2.756), "TR": (3.54, 7.395)}


def test_real_aera_header_keeps_what_is_known_and_never_maps_the_model() -> None:
    header = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Aera", "ScanOptions": "PFP\\SFS", "EchoTime": 1.73}
    assert VOCABULARY.recognise(header) == {"Manufacturer": "SIEMENS", "ScanOptions": "PFP\\SFS", "EchoTime": 1.73}


@pytest.mark.parametrize(("header", "folded"), [(1.494, 1.5), (2.8936, 3.0), (3, 3.0)])
def test_field_strength_is_folded_as_the_authors_do(header: float, folded: float) -> None:
    assert VOCABULARY.recognise({"MagneticFieldStrength": header}) == {"MagneticFieldStrength": folded}


@pytest.mark.parametrize("value", [0.5, 7.0, 2.0])
def test_other_field_strengths_are_unknown(value: float) -> None:
    assert VOCABULARY.recognise({"MagneticFieldStrength": value}) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0, 2.7570001, "2.4"])
def test_echo_times_off_the_range_are_unknown(value: float | str) -> None:
    assert VOCABULARY.recognise({"EchoTime": value}) == {}


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ({"EchoTime": 80.0}, "EchoTime"),
        ({"ManufacturerModelName": "Aera"}, "ManufacturerModelName"),
        ({"ScanOptions": "FS\\PFP"}, "ScanOptions"),
        ({"Kernel": "B30f"}, "Kernel"),
        ({"Manufacturer": "SIEMENS", "ManufacturerModelName": "SIGNA HDx"}, "Manufacturer"),
    ],
)
def test_targets_outside_the_vocabulary_are_refused(target: dict, where: str) -> None:
    with pytest.raises(TargetError) as caught:
        VOCABULARY.validate(target)
    assert caught.value.where == where
    assert caught.value.code == "target-out-of-domain"


def test_refusals_do_not_echo_what_was_sent() -> None:
    with pytest.raises(TargetError) as caught:
        VOCABULARY.validate({"ManufacturerModelName": "DOE^JANE"})
    assert "DOE" not in str(caught.value)


def test_unknown_vocabularies_are_named() -> None:
    with pytest.raises(BundleError, match="duke-v1"):
        load_vocabulary("duke-v9")

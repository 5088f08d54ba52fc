"""Record <-> vector: round trips, the null condition, and the two layouts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reacquire.errors import TargetError
from reacquire.iap import Categorical, Encoding, load_vocabulary

VOCABULARY = load_vocabulary()
LAYOUTS = [Encoding(VOCABULARY, "default"), Encoding(VOCABULARY, "paper")]


@st.composite
def records(draw: st.DrawFn) -> dict:
    """Any subset of the parameters with values of the vocabulary; manufacturer and model never contradict."""
    record = {}
    for parameter in VOCABULARY.parameters:
        if parameter.keyword != "Manufacturer" and draw(st.booleans()):
            record[parameter.keyword] = draw(
                st.sampled_from(parameter.categories)
                if isinstance(parameter, Categorical)
                else st.floats(parameter.minimum, parameter.maximum)
            )
    return record


@pytest.mark.parametrize("encoding", LAYOUTS, ids=lambda e: e.layout)
@given(record=records())
def test_decoding_inverts_encoding(encoding: Encoding, record: dict) -> None:
    decoded = encoding.decode(encoding.encode(record))
    assert decoded.keys() == record.keys()
    for keyword, value in record.items():
        assert decoded[keyword] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-5))


def test_widths() -> None:
    assert [e.width for e in LAYOUTS] == [25, 23]
    assert [len(e.parameters) for e in LAYOUTS] == [8, 7]


@pytest.mark.parametrize("encoding", LAYOUTS, ids=lambda e: e.layout)
def test_slices_tile_the_vector(encoding: Encoding) -> None:
    covered = np.concatenate([np.arange(s.start, s.stop) for s in encoding.slices.values()])
    assert covered.tolist() == list(range(encoding.width))


@pytest.mark.parametrize("encoding", LAYOUTS, ids=lambda e: e.layout)
def test_the_empty_record_is_the_null_condition(encoding: Encoding) -> None:
    for given_, null in zip(encoding.encode({}), encoding.null(), strict=True):
        assert np.array_equal(given_, null)
        assert not null.any()


def test_a_mean_value_is_not_mistaken_for_unknown() -> None:
    encoding = LAYOUTS[0]
    mean = encoding.encode({"EchoTime": VOCABULARY["EchoTime"].mean})
    assert mean.vector[encoding.slices["EchoTime"]] == pytest.approx(0, abs=1e-6)
    assert mean.known.sum() == 1


def test_the_paper_divides_by_the_maximum() -> None:
    encoding = LAYOUTS[1]
    assert encoding.encode({"FlipAngle": 9.0}).vector[encoding.slices["FlipAngle"]] == pytest.approx(9 / 12)


def test_values_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(TargetError):
        LAYOUTS[0].encode({"EchoTime": 99.0})

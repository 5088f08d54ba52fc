import pytest

from reacquire.phantom.bands import Band
from training import phantom_report

BAND = Band(1.0, 2.0, "mm", "a book")


@pytest.mark.parametrize(("values", "verdict"), [([1.1, 1.5, 9.0], "| in |"), ([3.0, 3.0], "| **out** |")])
def test_a_row_says_whether_the_median_is_in_the_band(values: list[float], verdict: str) -> None:
    assert verdict in phantom_report._row("size", values, BAND)


def test_a_statistic_without_data_says_so() -> None:
    assert "no data" in phantom_report._row("size", [float("nan")], BAND)


@pytest.mark.parametrize(("value", "verdict"), [(0.12, "in"), (0.04, "**leak**"), (0.3, "**out**")])
def test_a_slice_thickness_that_pixels_betray_is_a_leak(value: float, verdict: str) -> None:
    assert phantom_report._verdict("SliceThickness", {"joint table": {"SliceThickness": value}}) == verdict


def test_an_unknown_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert phantom_report.main(["dance"]) == 2
    assert "usage" in capsys.readouterr().err

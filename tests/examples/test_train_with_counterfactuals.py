"""The example for MONAI users runs as it is printed, at its smallest size."""

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from examples.train_with_counterfactuals import FIRST_WOMAN, interval, main, protocols_of, simulate


def test_it_compares_two_arms_on_the_other_vendor(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    sizes = ["--women", "1", "--test-women", "2", "--slices", "2", "--steps", "3"]
    result = CliRunner().invoke(app, [*sizes, "--store", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert sum("counterfactuals  " in line for line in lines) == 4
    assert sum("difference" in line for line in lines) == 2
    assert "Simulated women only" in result.output
    assert list(tmp_path.rglob("*.npz")), "the arm with counterfactuals made some"


def test_the_women_who_are_tested_on_have_another_scanner() -> None:
    (item,) = simulate([FIRST_WOMAN], "siemens", 1)
    assert item["iap"]["Manufacturer"] == "SIEMENS"
    assert {r["Manufacturer"] for r in protocols_of("ge").records} == {"GE MEDICAL SYSTEMS"}
    assert item["image"].shape == item["label"].shape


def test_the_interval_is_that_of_a_mean_over_women() -> None:
    assert interval(torch.tensor([0.5, 0.5, 0.5])).startswith("0.500")
    mean, low, high = (float(x.strip("[],")) for x in interval(torch.tensor([0.1, 0.2, 0.6])).split())
    assert mean == pytest.approx(0.3)
    assert 0.1 <= low < mean < high <= 0.6

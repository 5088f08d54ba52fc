"""The comparison of methods: the exact denoiser of one mode, figures of edits that are known, and dominance."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_cache import write_fake_cache
from tiny_bundle import pack_tiny, tiny_run
from torch import Tensor
from typer.testing import CliRunner

from reacquire.bundles.manifest import DirectSetup, SdeditSetup
from reacquire.engine import Editor, Segmenter
from reacquire.engine.judges import Predictor
from reacquire.iap import Encoding, load_vocabulary
from reacquire.metrics import contrast_transfer
from reacquire.networks import Condition
from training.pareto.__main__ import app
from training.pareto.candidates import Candidate, candidates_of_denoiser, candidates_of_direct, denoiser_setups
from training.pareto.exact import exact_transfer
from training.pareto.measure import Judges, Reference, band_swap, contrast, low_band, measure
from training.pareto.modes import Mode, mode_transfer, tissue_mode
from training.pareto.pairs import HeldOut, load_pairs, save_pairs
from training.pareto.report import figure, table, undominated
from training.pareto.run import acquiring, doing_nothing, run_candidate, summed_up

SIEMENS = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Avanto", "EchoTime": 1.4}
GE = {"Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "SIGNA HDx", "EchoTime": 2.4}
RECORD = {"MagneticFieldStrength": 1.5, "ScanOptions": "PFP\\FS", "FlipAngle": 10.0, "SliceThickness": 2.0}
WOMEN = (0, 0, 1, 1, 2, 2)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def pairs(size: int = 16) -> HeldOut:
    """Six pairs of three women; each tissue's grey level is scaled by its own factor, and noise lies on top."""
    tissues = (drawn(6, 1, size, size, seed=1) * 4).long()
    source = drawn(6, 1, size, size, seed=2) + 0.5
    truth = source * (1 + 0.2 * tissues)
    target = truth + 0.01 * drawn(6, 1, size, size, seed=3)
    number = {"RepetitionTime": 4.2}
    records = [({**SIEMENS, **RECORD, **number}, {**GE, **RECORD, "RepetitionTime": 4.0 + i / 2}) for i in range(6)]
    return HeldOut(source, target, truth, tissues, WOMEN, *zip(*records, strict=True))


class Reading(torch.nn.Module):
    """Reads a GE scanner off bright slices and a Siemens one off dark ones."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3)) > 1.05
        here = Condition.stack([ENCODING.encode(GE if b else SIEMENS) for b in bright])
        return 9 * here.vector


ENCODING = Encoding(load_vocabulary(), "default")
PREDICTOR = Predictor(Reading(), ENCODING)
SEGMENTER = Segmenter(torch.nn.Conv2d(1, 3, 1).requires_grad_(False))
JUDGES = Judges(PREDICTOR, SEGMENTER)


def reference() -> Reference:
    return Reference(pairs(), JUDGES)


def test_one_mode_behaves_as_calculated_by_hand() -> None:
    """Within 0.01, between 0.0025: the source's share and the target's shift after the paper's fifty steps."""
    assert mode_transfer(0.01, 0.0025) == pytest.approx((0.447, 1.254), abs=2e-3)
    kept, shift = mode_transfer(0.01 * 20_000, 0.0025 * 20_000)  # the mean of 20,000 pixels
    assert shift == pytest.approx(0.00013, abs=1e-5)
    assert kept == pytest.approx(1, abs=1e-3)


def test_a_tissues_mode_is_measured_within_and_among_protocols(tmp_path: Path) -> None:
    cache = write_fake_cache(tmp_path / "cache", women=8)
    mode = tissue_mode(cache, cache.rows, 1)
    levels = [np.mean(cache.images[row.index][cache.labels[row.index] == 1]) for row in cache.rows]
    siemens, ge = np.array(levels[::2]), np.array(levels[1::2])
    assert mode.within == pytest.approx(np.sqrt((siemens.var(ddof=1) + ge.var(ddof=1)) / 2), rel=1e-2)
    assert mode.between == pytest.approx((ge.mean() - siemens.mean()) / 2, rel=1e-2)
    assert mode.transfer() == mode_transfer(mode.pixels * mode.within**2, mode.pixels * mode.between**2)


def test_the_truth_itself_closes_every_gap_and_the_source_none() -> None:
    perfect, nothing = (measure(reference(), image) for image in (pairs().truth, pairs().source))
    assert sum(perfect["gap_part"]) == pytest.approx(sum(perfect["gap_whole"]))
    assert sum(perfect["contrast_muscle_part"]) == pytest.approx(sum(perfect["contrast_muscle_whole"]))
    for name in ("gap_part", "contrast_fat_part", "effect_categories_part", "effect_numbers_part"):
        assert sum(nothing[name]) == 0
    assert sum(perfect["effect_categories_part"]) == sum(perfect["effect_categories_whole"]) == 12


def test_contrast_terms_add_up_to_the_projects_ratio() -> None:
    held, half = pairs(), (pairs().source + pairs().truth) / 2
    terms = contrast(held, half)
    ratio = terms["contrast_fat_part"].sum() / terms["contrast_fat_whole"].sum()
    expected = contrast_transfer(half, held.source, held.truth, held.tissues == 1)
    torch.testing.assert_close(ratio, expected)
    assert ratio.item() == pytest.approx(0.5, abs=1e-5)


def test_bands_split_contrast_from_texture() -> None:
    checker = (torch.arange(64)[:, None] + torch.arange(64)) % 2.0
    assert low_band(checker[None, None]).std() < 1e-3
    torch.testing.assert_close(low_band(torch.full((1, 1, 64, 64), 0.7)), torch.full((1, 1, 64, 64), 0.7))
    ramp = torch.sin(torch.arange(64) * 2 * torch.pi / 64).expand(1, 1, 64, 64)
    assert (low_band(ramp) - ramp).abs().max() < 0.02


def test_swapping_bands_shares_the_change_out() -> None:
    figures = band_swap(reference(), low_band(pairs().truth - pairs().source) + pairs().source)
    assert sum(figures["coarse_gap_part"]) > 5 * abs(sum(figures["fine_gap_part"]))
    assert figures["coarse_effect_categories_whole"] == figures["fine_effect_categories_whole"]


def test_pairs_survive_being_stored(tmp_path: Path) -> None:
    save_pairs(pairs(), tmp_path / "pairs.safetensors")
    found = load_pairs(tmp_path / "pairs.safetensors")
    assert torch.equal(found.truth, pairs().truth)
    assert (found.women, found.source_iap) == (pairs().women, pairs().source_iap)


class Halfway(torch.nn.Module):
    def forward(self, image: Tensor, source: Condition, target: Condition) -> Tensor:
        return torch.cat([0.1 * image, torch.full_like(image, 0.01)], dim=1)


def test_a_row_holds_intervals_over_women_and_what_an_edit_costs(tmp_path: Path) -> None:
    candidate = Candidate("halfway", "direct", Editor(Halfway(), ENCODING, DirectSetup(method="direct", noise=False)))
    rows = [run_candidate(candidate, reference(), range(2)), doing_nothing(reference()), acquiring(reference())]
    half, nothing, real = (row["figures"] for row in rows)
    assert 0 == nothing["gap_pooled"]["value"] < half["gap_pooled"]["value"] < real["gap_pooled"]["value"] < 1
    assert half["gap_pooled"]["n"] == 3
    assert half["composition"]["value"] == pytest.approx(half["change"]["value"], rel=1e-5)
    assert rows[0]["evaluations"] == 1
    assert rows[0]["spread_of_seeds"] == 0
    figure([json.loads(json.dumps(row)) for row in rows], tmp_path / "a.png", "test")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert table(rows).count("\n") == 4


def test_what_has_no_interval_is_shown_without_one_and_stored_as_json() -> None:
    """A ratio whose whole some resample of women lacks, as that of categories which few pairs change."""
    row = doing_nothing(reference())
    bare = summed_up({"gap_part": [1.0, 0.0], "gap_whole": [2.0, 0.0], "muscle": [np.nan, np.nan]}, (0, 1))
    assert json.loads(json.dumps(bare, allow_nan=False))["gap_pooled"] | {"n": 0} == {
        "value": 0.5, "low": None, "high": None, "n": 0, "unit": "women",
    }  # fmt: skip
    assert bare["muscle"]["value"] is None
    assert "| 0.50 |" in table([{**row, "figures": bare}])


def test_a_method_without_a_figure_spoils_neither_picture_nor_order(tmp_path: Path) -> None:
    def row(name: str, **gap: float | None) -> dict:
        others = {key: {"value": None} for key in ("dice_minus_true_target", "effect_categories_pooled")}
        costs = {"evaluations": 1, "cpu_seconds_per_slice": 0.1}
        return {"name": name, "family": "direct", **costs, "figures": {**others, "gap_pooled": gap}}

    rows = [row("bare", value=0.5, low=None, high=None), row("none", value=None, low=None, high=None)]
    figure(rows, tmp_path / "a.png", "test")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert undominated(rows) == ["bare"]


def test_two_networks_of_one_kind_need_names(tmp_path: Path) -> None:
    run = str(tiny_run(tmp_path / "run", "editor", "structure"))
    judges = [
        "--predictor",
        str(tiny_run(tmp_path / "p", "predictor")),
        "--segmenter",
        str(tiny_run(tmp_path / "s", "segmenter")),
    ]
    result = CliRunner().invoke(app, ["run", str(tmp_path / "rows"), *judges, "--denoiser", run, "--denoiser", run])
    assert result.exit_code == 2
    assert "NAME=FOLDER" in result.output
    names = {c.name for c in candidates_of_denoiser("other", Path(run))}
    assert "structure, 1 step, w=2, other" in names


def test_only_what_nobody_beats_is_undominated() -> None:
    def row(name: str, gap: float, evaluations: int) -> dict:
        return {"name": name, "evaluations": evaluations, "figures": {"gap_pooled": {"value": gap}}}

    rows = [row("a", 0.3, 1), row("b", 0.2, 1), row("c", 0.5, 10), row("d", 0.1, 100), row("bound", 1.0, 0)]
    assert undominated(rows) == ["a", "c"]


def test_the_papers_own_settings_are_among_the_candidates() -> None:
    family, setup = denoiser_setups()["paper, w=3"]
    assert family == "paper"
    assert isinstance(setup, SdeditSetup)
    assert (setup.sampler, setup.steps, setup.guidance_scale) == ("ancestral", 50, 3.0)


def test_methods_move_a_mode_as_calculated() -> None:
    """One pixel, within 0.01 and between 0.0025: few steps keep 0.445."""
    mode, setups = Mode(pixels=1, within=0.1, between=0.05), denoiser_setups()
    assert exact_transfer(setups["ddim, 8 steps, w=3"][1], mode).kept == pytest.approx(0.445, abs=0.005)
    paper = exact_transfer(setups["paper, w=3"][1], mode)
    assert paper.kept == pytest.approx(0.447, abs=1e-3)
    assert paper.moved == pytest.approx((1 - 0.447 + 1.254) / 2, abs=2e-3)


def test_an_inversion_moves_a_tissue_by_its_depth_and_keeps_the_woman() -> None:
    tissue, setups = Mode(pixels=5000, within=0.08, between=0.08), denoiser_setups()
    names = [f"edit-friendly to {start}, 8 steps, w=1" for start in (400, 700, 950)]
    exact = [exact_transfer(setups[name][1], tissue) for name in names]
    assert 0.01 < exact[0].moved < exact[1].moved < exact[2].moved < 1
    assert exact[2].moved > 0.8
    assert all(e.kept == pytest.approx(1, abs=1e-4) for e in exact)


def test_a_bundle_competes_as_it_ships_and_a_run_as_its_network_alone(tmp_path: Path) -> None:
    bundle, run = pack_tiny(tmp_path, tone=True), tiny_run(tmp_path / "run", "editor")
    for folder, follows in ((bundle, True), (run, False)):
        noisy, plain = candidates_of_direct("name", folder)
        assert (noisy.name, plain.name) == ("name", "name, without noise")
        assert noisy.random and not plain.random
        assert {c.editor.tone is not None for c in (noisy, plain)} == {follows}

"""The measuring parts against closed forms, other libraries and known answers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import FIDMetric
from monai.networks.nets import resnet50
from safetensors.torch import save_file

from reacquire.metrics import ssim, structure
from training.evaluation import paper
from training.evaluation.bands import low_pass
from training.evaluation.distances import frechet, kid, mmd_linear
from training.evaluation.downstream import downstream
from training.evaluation.features import radimagenet_input, radimagenet_network
from training.evaluation.rescans import volumes
from training.statistics import jackknifed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MONAI calls scipy's sqrtm as it was
def test_the_frechet_distance_is_that_of_monai() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.normal(0.4, 2, (80, 5))
    expected = float(FIDMetric()(torch.from_numpy(x), torch.from_numpy(y)))
    assert frechet(x, y) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_works_with_fewer_samples_than_features() -> None:
    x = np.random.default_rng(0).normal(size=(6, 50))
    assert frechet(x, x) == pytest.approx(0, abs=1e-8)
    assert frechet(x, x + 1) == pytest.approx(50)


def test_the_kernel_distance_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    same = [kid(rng.normal(size=(20, 4)), rng.normal(size=(20, 4))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)
    assert kid(rng.normal(size=(50, 4)), rng.normal(2, 1, (50, 4))) > 5 * np.std(same)


def test_the_papers_mmd_sees_mean_images_only() -> None:
    x = np.random.default_rng(0).normal(size=(8, 1, 4, 4))
    assert mmd_linear(x, x[::-1]) == pytest.approx(0)
    assert mmd_linear(x, x + 0.5) == pytest.approx(0.25)


def test_structure_is_blind_to_brightness_and_contrast() -> None:
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert structure(x, 0.5 * x + 0.3) == pytest.approx(torch.ones(2), abs=0.02)
    assert float(ssim(x, 0.5 * x + 0.3).max()) < 0.9


def test_low_and_high_bands_add_up_and_the_mean_is_low() -> None:
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float(low_pass(x).mean()) == pytest.approx(float(x.mean()), abs=1e-6)
    assert float((x - low_pass(x)).std()) > 0.5 * float(x.std())


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = dict(enumerate(np.random.default_rng(0).normal(size=30)))
    estimate = jackknifed(lambda women: float(np.mean([values[w] for w in women])), list(values))
    error = np.std(list(values.values()), ddof=1) / np.sqrt(30)
    assert estimate.high - estimate.value == pytest.approx(1.959964 * error)


def test_the_papers_corrected_figures_are_those_of_the_design_notes() -> None:
    assert paper.corrected("ManufacturerModelName") == pytest.approx(0.816, abs=5e-4)
    assert paper.corrected("MagneticFieldStrength") == pytest.approx(0.540, abs=5e-4)
    assert paper.corrected("FlipAngle") == pytest.approx(0.44, abs=5e-3)


SDEDIT = {"method": "sdedit", "sampler": "ancestral", "steps": 25, "guidance_scale": 5, "start": 49}


@pytest.mark.parametrize(
    ("record", "setting", "fid", "te"),
    [
        (SDEDIT, (25, 5.0), 0.501, 0.055),
        ({**SDEDIT, "steps": 75, "guidance_scale": 7.0}, (75, 7.0), 0.774, 0.042),
        ({**SDEDIT, "sampler": "ddim", "guidance_scale": 3.0}, (50, 3.0), 0.513, 0.038),  # 25 steps through 50 of noise
        ({**SDEDIT, "steps": 40}, (40, 5.0), None, None),
        ({"method": "direct", "noise": True}, (50, 3.0), 0.513, 0.038),
    ],
)
def test_an_editor_is_held_against_the_papers_row_of_its_settings(record, setting, fid, te) -> None:
    assert paper.setting_of(record) == setting
    assert paper.table_4("legacy_fid_same_originals", setting) == fid
    assert paper.table_5("EchoTime", setting) == te
    assert (paper.corrected("EchoTime", setting) is None) == (te is None)
    assert paper.table_5("Manufacturer", setting) is None


def test_every_printed_row_of_tables_4_and_5_is_kept() -> None:
    grid = {paper.WITHOUT, *((steps, scale) for steps in (25, 50, 75) for scale in (3.0, 5.0, 7.0))}
    assert paper.TABLE_4.keys() == paper.TABLE_5.keys() == grid
    assert {len(row) for row in paper.TABLE_4.values()} == {len(paper.TABLE_4_COLUMNS)}
    assert {len(row) for row in paper.TABLE_5.values()} == {len(paper.TABLE_5_COLUMNS)}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    network = resnet50(spatial_dims=2, n_input_channels=3, feed_forward=False, bias_downsample=False)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def features_of(path: Path) -> torch.Tensor:
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return radimagenet_network(path)(radimagenet_input(image))


def test_radimagenet_weights_are_read_under_each_of_their_names(weights, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "plain.safetensors")
    numbered = {"conv1": "0", "bn1": "1", **{f"layer{i}": str(i + 3) for i in range(1, 5)}}
    renamed = {f"backbone.{numbered[k.split('.')[0]]}.{k.split('.', 1)[1]}": v for k, v in weights.items()}
    torch.save(renamed, tmp_path / "numbered.pt")
    assert torch.equal(features_of(tmp_path / "plain.safetensors"), features_of(tmp_path / "numbered.pt"))


def test_biases_of_the_keras_conversion_are_folded_exactly(weights, tmp_path: Path) -> None:
    zero = {k.replace("weight", "bias"): torch.zeros(len(v)) for k, v in weights.items() if v.ndim == 4}
    torch.save({**weights, **zero}, tmp_path / "zero.pt")
    shifted = {k: v + 0.1 for k, v in zero.items()}
    means = {k: v + 0.1 for k, v in weights.items() if k.endswith("running_mean")}
    torch.save({**weights, **means, **shifted}, tmp_path / "shifted.pt")
    assert torch.allclose(features_of(tmp_path / "zero.pt"), features_of(tmp_path / "shifted.pt"), atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x04N."])
def test_unreadable_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pt"):
        radimagenet_network(tmp_path / "x.pt")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights"):
        radimagenet_network(tmp_path / "x.safetensors")


def test_a_folder_without_label_volumes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no label volumes"):
        volumes(tmp_path)


def write_rows(path: Path, steps: int) -> Path:
    """What an experiment at its smallest leaves."""
    dice = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 12, "unit": "women"}
    row = {"direction": "GE->Siemens", "arm": "none", "tissue": "fat", "dice": dice, "difference_to_none": None}
    measured = {"bundle_sha256": "ab" * 32, "seeds": 3, "configs": {"GE": {"preset": "smoke", "seed": 0}}}
    rows = [{**row, "p_holm": None, "seeds": 3, "steps": steps}]
    legacy = {"direction": "GE->Siemens", "arm": "none", "figure": "legacy_recall_fibroglandular", "value": dice}
    document = {"measured_with": measured, "rows": rows}
    document["legacy_rows"] = [{**legacy, "difference_to_none": None, "p_holm": None, "seeds": 3, "steps": steps}]
    path.write_text(json.dumps(document))
    return path


def test_rows_of_the_downstream_experiment_become_table_3(tmp_path: Path) -> None:
    section = downstream(write_rows(tmp_path / "rows.json", 500))
    assert "abababababab" in section.method
    assert section.figures["downstream"]["dice/GE->Siemens/none/fat"].estimate.n == 12
    assert len(section.tables[-1].rows) == 9
    legacy = {row[2]: row[3] for table in section.tables if "as the paper counts" in table.title for row in table.rows}
    assert (
        legacy["legacy_recall_fibroglandular"]
        == section.figures["downstream"]["legacy_recall_fibroglandular/GE->Siemens/none"]
    )
    assert not any("Barely" in caveat for caveat in section.caveats)


def test_segmenters_that_were_barely_trained_are_called_so(tmp_path: Path) -> None:
    section = downstream(write_rows(tmp_path / "rows.json", 499))
    assert "Barely trained: the segmenters had 499 optimiser steps (preset smoke)" in section.caveats[0]


EMPTY = '{"measured_with": {"bundle_sha256": "ab"}, "rows": %s}'


@pytest.mark.parametrize("content", ["", "[]", '{"dice": 1}', EMPTY % "[]", EMPTY % "[{}]", EMPTY % "5"])
def test_other_files_are_no_downstream_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(ValueError, match=r"rows\.json"):
        downstream(tmp_path / "rows.json")

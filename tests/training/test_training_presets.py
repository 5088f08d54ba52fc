"""The presets by golden number: what the paper trained with, and what ours adds."""

import json

import pytest

from training.config import PRESETS, Phase, from_json, to_json

PAPER = {  # section 2.2, 3.1.1 and 3.1.2; patience as in the authors' code
    "editor": {"epochs": 15, "phases": (Phase(0, 32, 1e-4),), "weight_decay": 1e-3, "condition_dropout": 0.15},
    "predictor": {"epochs": 200, "phases": (Phase(0, 512, 1e-5),), "weight_decay": 1e-4, "condition_dropout": 0.0},
    "segmenter": {"epochs": 100, "phases": (Phase(0, 256, 2e-3),), "weight_decay": 1e-3, "patience": 25},
}
PLAIN = {"network": "paper", "precision": "16-mixed", "ema": None, "clip": None, "mirror": False, "accumulate": 1}


@pytest.mark.parametrize("model", PAPER)
def test_the_paper_preset_is_the_papers(model: str) -> None:
    stated = to_json(PRESETS[model, "paper"])
    for key, value in (PLAIN | PAPER[model]).items():
        assert stated[key] == (tuple(vars(p) for p in value) if key == "phases" else value), key


def test_only_the_papers_segmenter_ends_by_its_validation_loss() -> None:
    assert [key for key, preset in PRESETS.items() if preset.patience is not None] == [("segmenter", "paper")]


@pytest.mark.parametrize("model", PAPER)
def test_ours_averages_weights_and_bounds_gradients(model: str) -> None:
    preset = PRESETS[model, "default"]
    assert (preset.ema, preset.clip, preset.precision, preset.validate_every) == (0.995, 1.0, "bf16-mixed", 250)


@pytest.mark.parametrize("model", PAPER)
def test_two_cores_compute_in_full_precision_and_end_at_full_size(model: str) -> None:
    preset = PRESETS[model, "two-core"]
    assert (preset.precision, preset.phases[-1].size, preset.network) == ("32-true", None, "default")


@pytest.mark.parametrize("key", PRESETS, ids=lambda k: "-".join(k))
def test_presets_survive_json(key: tuple) -> None:
    assert from_json(json.loads(json.dumps(to_json(PRESETS[key])))) == PRESETS[key]


def test_epochs_become_steps_and_a_validation_per_epoch() -> None:
    sized = PRESETS["segmenter", "paper"].sized(2600)
    assert (sized.steps, sized.validate_every, sized.epochs) == (1000, 10, None)
    assert PRESETS["editor", "paper"].sized(3200).steps == 1500

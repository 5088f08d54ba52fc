"""Validation is the same question at each step, and a run that ends by it keeps its best weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_cache import write_fake_cache
from safetensors.torch import load_file
from torch import nn

from training.cache import open_cache
from training.config import Phase, TrainConfig, TrainError
from training.record import read_record
from training.runs import build_network, objective_of, run_training, validation_of
from training.validation import Standing, Validation, validation_rows

EDITOR = TrainConfig(
    "editor", "smoke", "default", (Phase(2, 2, 1e-3, 32),), condition_dropout=0.3, validate_every=1, ema=0.9
)
# a rate that soon makes things worse
STOPPING = TrainConfig("segmenter", "smoke", "default", (Phase(40, 4, 0.3),), validate_every=1, patience=3)


def silent(step: int, loss: float) -> None:
    """No progress bar in tests."""


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "cache"
    write_fake_cache(folder, size=64, val=True)
    return folder


def validation(config: TrainConfig, cache_folder: Path) -> tuple[Validation, nn.Module]:
    cache = open_cache(cache_folder)
    found = validation_of(config, cache, objective_of(config, cache))
    assert found is not None
    return found, build_network(config)[0]


def test_the_loss_depends_neither_on_parts_nor_on_how_many_are_taken_at_once(cache_folder: Path) -> None:
    whole, network = validation(EDITOR, cache_folder)
    single = replace(whole, batches=replace(whole.batches, batch_size=1))
    device = torch.device("cpu")
    once = whole.total(network, 0, 1, device)
    assert torch.allclose(once, single.total(network, 0, 1, device))
    assert torch.allclose(once, sum(whole.total(network, part, 2, device) for part in range(2)))
    assert network.training


def test_validation_slices_are_those_of_validation_women(cache_folder: Path) -> None:
    cache = open_cache(cache_folder)
    assert {row.split for row in validation_rows(EDITOR, cache)} == {"val"}
    assert len(validation_rows(replace(EDITOR, validation_slices=2), cache)) == 2
    assert validation_rows(replace(EDITOR, validate_every=None), cache) == ()


def test_a_nan_is_never_the_best() -> None:
    standing = Standing().after(2.0, 1).after(float("nan"), 2).after(1.0, 3)
    assert standing == Standing(1.0, 3, 0)
    assert Standing().after(2.0, 1).after(2.0, 2) == Standing(2.0, 1, 1)


def test_a_run_that_gets_no_better_ends_with_its_best_weights(cache_folder: Path, tmp_path: Path) -> None:
    weights = run_training(cache_folder, tmp_path, STOPPING, resume=False, report=silent)
    rows = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    losses = [row["validation"] for row in rows]
    best = min(losses)
    assert len(losses) == losses.index(best) + 1 + STOPPING.patience < STOPPING.steps
    task, network = validation(STOPPING, cache_folder)
    network.load_state_dict(load_file(weights))
    total = task.total(network, 0, 1, torch.device("cpu")).item()
    assert total / len(task.batches.rows) == pytest.approx(best, rel=1e-5)
    assert read_record(tmp_path).validation == {"loss": best, "step": losses.index(best) + 1}


def test_a_run_stopped_amid_its_patience_ends_as_if_it_had_not_been(cache_folder: Path, tmp_path: Path) -> None:
    def give_up(step: int, loss: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    config = replace(STOPPING, checkpoint_every=1)
    whole = run_training(cache_folder, tmp_path / "whole", config, resume=False, report=silent)
    with pytest.raises(KeyboardInterrupt):
        run_training(cache_folder, tmp_path / "run", config, resume=False, report=give_up)
    resumed = run_training(cache_folder, tmp_path / "run", config, resume=True, report=silent)
    a, b = load_file(whole), load_file(resumed)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (tmp_path / "whole/losses.jsonl").read_bytes() == (tmp_path / "run/losses.jsonl").read_bytes()


def test_early_stopping_without_validation_women_is_refused(tmp_path: Path) -> None:
    write_fake_cache(tmp_path / "cache")
    with pytest.raises(TrainError, match="reacquire-train split"):
        run_training(tmp_path / "cache", tmp_path / "run", STOPPING, resume=False, report=silent)
    paper = replace(STOPPING, preset="paper")
    assert {row.split for row in validation_rows(paper, open_cache(tmp_path / "cache"))} == {"test"}

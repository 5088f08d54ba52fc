"""Training is a pure function of cohort, preset and seed, however often it is broken off."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fake_cache import write_fake_cache
from safetensors.torch import load_file

from training.config import Phase, TrainConfig
from training.runs import build_network, run_training

TINY = {
    "segmenter": TrainConfig(
        "segmenter", "smoke", "default", (Phase(6, 4, 1e-3, None, 0.5),), ema=0.9, checkpoint_every=2
    ),
    "predictor": TrainConfig("predictor", "smoke", "default", (Phase(4, 4, 1e-3),), ema=0.9),
    "editor": TrainConfig(
        "editor", "smoke", "default", (Phase(2, 4, 1e-3, 32), Phase(2, 2, 1e-3)), condition_dropout=0.2, ema=0.9
    ),
}


def silent(step: int, loss: float) -> None:
    """No progress bar in tests."""


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "cache"
    write_fake_cache(folder, size=64)
    return folder


@pytest.mark.parametrize("model", TINY)
def test_each_model_trains_and_its_weights_move(model: str, cache_folder: Path, tmp_path: Path) -> None:
    weights = run_training(cache_folder, tmp_path / "run", TINY[model], resume=False, report=silent)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "losses.jsonl").read_text().splitlines()]
    assert len(losses) == TINY[model].steps
    assert all(torch.isfinite(torch.tensor(losses)))
    fresh, _ = build_network(TINY[model])
    trained = weights_of(weights)
    assert all(not torch.equal(trained[name], value) for name, value in fresh.named_parameters() if value.ndim == 4)


def test_the_same_run_twice_gives_the_same_weights(cache_folder: Path, tmp_path: Path) -> None:
    a, b = (
        weights_of(run_training(cache_folder, tmp_path / x, TINY["segmenter"], resume=False, report=silent))
        for x in "ab"
    )
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_killed_run_resumes_bit_for_bit(cache_folder: Path, tmp_path: Path) -> None:
    whole = weights_of(run_training(cache_folder, tmp_path / "whole", TINY["segmenter"], resume=False, report=silent))
    code = (
        "import sys, time; sys.path[:0] = [{tests!r}]\n"
        "from pathlib import Path\nfrom test_training_loop import TINY\nfrom training.runs import run_training\n"
        "def report(step, loss):\n"
        "    if step == 4: print('five steps done', flush=True); time.sleep(60)\n"
        "run_training(Path({cache!r}), Path({run!r}), TINY['segmenter'], resume=False, report=report)\n"
    ).format(tests=str(Path(__file__).parent), cache=str(cache_folder), run=str(tmp_path / "killed"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("five steps")
        os.kill(process.pid, signal.SIGKILL)
    resumed = weights_of(run_training(cache_folder, tmp_path / "killed", TINY["segmenter"], resume=True, report=silent))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_run_is_never_overwritten(cache_folder: Path, tmp_path: Path) -> None:
    run_training(cache_folder, tmp_path / "run", TINY["segmenter"], resume=False, report=silent)
    with pytest.raises(FileExistsError, match="holds a run already"):
        run_training(cache_folder, tmp_path / "run", TINY["segmenter"], resume=False, report=silent)


def test_a_run_is_not_resumed_with_another_configuration(cache_folder: Path, tmp_path: Path) -> None:
    run_training(cache_folder, tmp_path / "run", TINY["segmenter"], resume=False, report=silent)
    with pytest.raises(ValueError, match=r"another configuration \(.*phases"):
        run_training(cache_folder, tmp_path / "run", TINY["predictor"], resume=True, report=silent)


def test_the_learning_rate_falls_within_each_phase() -> None:
    config = TINY["segmenter"]
    rates = [config.phase_at(step)[2] for step in range(config.steps)]
    assert rates == sorted(rates, reverse=True)
    with pytest.raises(IndexError):
        config.phase_at(config.steps)

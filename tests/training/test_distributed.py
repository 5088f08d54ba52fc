"""However a batch is divided, over processes or in time, the weights come out the same."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_cache import write_fake_cache
from safetensors.torch import load_file

from training.config import PRESETS, Phase, TrainConfig, TrainError
from training.hardware import launch, placed
from training.runs import run_training, with_overrides

ROOT = Path(__file__).resolve().parents[2]
# The editor draws random numbers and has no batch statistics. Sums in another order round otherwise, and AdamW divides
# by the size of a gradient: hence an absolute tolerance, a fifth of a single step's length.
EDITOR = TrainConfig("editor", "smoke", "default", (Phase(3, 4, 1e-4, 32),), condition_dropout=0.3, ema=0.5)
TOLERANCE = 2e-5


def silent(step: int, loss: float) -> None:
    """No progress bar in tests."""


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "cache"
    write_fake_cache(folder, size=64, val=True)
    return folder


@pytest.fixture(scope="module")
def alone(cache_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone")
    run_training(cache_folder, run, replace(EDITOR, validate_every=3), resume=False, report=silent)
    return run


def agree(run: Path, other: Path) -> None:
    a, b = (load_file(folder / "weights.safetensors") for folder in (run, other))
    assert max((a[key] - b[key]).abs().max().item() for key in a) < TOLERANCE
    losses = [[json.loads(line) for line in (f / "losses.jsonl").read_text().splitlines()] for f in (run, other)]
    for one, two in zip(*losses, strict=True):
        assert one == pytest.approx(two, rel=1e-4)


@pytest.mark.timeout(900)  # three processes load PyTorch
def test_two_processes_end_with_the_weights_of_one(cache_folder: Path, tmp_path: Path) -> None:
    """By the command that docs/training.md and the chart give."""
    config = with_overrides(PRESETS["editor", "smoke"], seed=0, steps=2)
    run_training(cache_folder, tmp_path / "alone", config, resume=False, report=silent)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=localhost", "--nproc-per-node=2"]
    words = ["-m", "--", "training.cli", "train", "editor", "--preset", "smoke", "--steps", "2", "--accelerator", "cpu"]
    done = subprocess.run(
        [sys.executable, *torchrun, *words, "--cohort", cache_folder.parent, "--run", tmp_path / "run"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    agree(tmp_path / "alone", tmp_path / "run")
    files = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("alone", "run")]
    assert files[0] == files[1]


@pytest.mark.parametrize("turns", [2, 4])
def test_a_batch_in_turns_ends_with_the_weights_of_one_at_once(
    cache_folder: Path, alone: Path, tmp_path: Path, turns: int
) -> None:
    config = replace(EDITOR, validate_every=3, accumulate=turns)
    run_training(cache_folder, tmp_path, config, resume=False, report=silent)
    agree(alone, tmp_path)


def test_a_batch_that_can_not_be_divided_is_refused(cache_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="3 equal parts"):
        run_training(cache_folder, tmp_path, replace(EDITOR, accumulate=3), resume=False, report=silent)


def test_a_compiled_network_learns_the_same(cache_folder: Path, alone: Path, tmp_path: Path) -> None:
    """With a back end that traces and compiles nothing, so that the test needs no compiler."""
    config = replace(EDITOR, validate_every=3, compiler="eager")
    run_training(cache_folder, tmp_path, config, resume=False, report=silent)
    agree(alone, tmp_path)


def test_sixteen_bit_floats_are_refused_on_a_cpu_and_replaced_where_only_preferred() -> None:
    with pytest.raises(TrainError, match="--precision 32-true"):
        launch("16-mixed", "cpu")
    assert placed(replace(EDITOR, precision="16-mixed"), "cpu").precision == "32-true"


def test_bfloat16_trains_on_a_cpu(cache_folder: Path, tmp_path: Path) -> None:
    fabric = launch("bf16-mixed", "cpu")
    config = replace(EDITOR, precision="bf16-mixed", phases=(Phase(1, 2, 1e-4, 32),))
    weights = run_training(cache_folder, tmp_path, config, resume=False, report=silent, fabric=fabric)
    assert {value.dtype for value in load_file(weights).values()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_sixteen_bit_floats_train_on_a_gpu(cache_folder: Path, tmp_path: Path) -> None:
    config = replace(EDITOR, precision="16-mixed")
    losses = run_training(cache_folder, tmp_path, config, resume=False, report=silent).parent / "losses.jsonl"
    assert all(json.loads(line)["loss"] < 100 for line in losses.read_text().splitlines())

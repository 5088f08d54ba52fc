"""Fitting the tone network: it learns what parameters do to gland, the same from the same seed, or says why not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_cache import write_fake_cache
from safetensors.torch import load_file
from test_training_cli import run as command
from tiny_bundle import MODELS, pack_tiny
from torch import Tensor, nn
from typer.testing import CliRunner

from reacquire.bundles.load import LoadedBundle, load_bundle
from reacquire.engine.tone import Tone
from reacquire.imaging import Preprocessing
from training.cache import SliceCache
from training.cli import app
from training.config import TrainError
from training.record import read_record
from training.tone import examples_of, train_tone

SIZE = 32


class Right(nn.Module):
    """Gland is the right half; all else is fat."""

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.full((len(images), 3, SIZE, SIZE), -20.0)
        logits[:, 1, :, : SIZE // 2] = logits[:, 2, :, SIZE // 2 :] = 20.0
        return logits


def untracked(items, _):
    return items


@pytest.fixture
def bundle(tmp_path: Path) -> LoadedBundle:
    packed = load_bundle(pack_tiny(tmp_path / "bundle"))
    return packed._replace(segmenter=Right(), preprocessing=Preprocessing(size=SIZE))


@pytest.fixture
def cache(tmp_path: Path) -> SliceCache:
    return write_fake_cache(tmp_path / "cache", women=24, size=SIZE)


def fitted(bundle: LoadedBundle, cache: SliceCache, run: Path, *, steps: int, losses: list[float]) -> Path:
    def report(_: int, loss: float) -> None:
        losses.append(loss)

    return train_tone(bundle, cache, run, seed=3, steps=steps, report=report, track=untracked)


def test_examples_are_all_ordered_pairs_and_how_gland_changes(bundle: LoadedBundle, cache: SliceCache) -> None:
    rows = cache.split("train")
    examples = examples_of(cache, rows, bundle.encoding, Tone(nn.Identity(), Right()), untracked)
    assert examples.statistics.shape == (len(rows), 9)  # each row is the source of its one mate
    gland = examples.statistics[:, 1]
    brighter = examples.change > 0
    torch.testing.assert_close(examples.change[brighter], gland[brighter], atol=0.01, rtol=0)  # GE is twice as bright
    torch.testing.assert_close(examples.change[~brighter], -gland[~brighter] / 2, atol=0.01, rtol=0)
    of_maker = bundle.encoding.slices["Manufacturer"]
    to_ge = examples.target.vector[:, of_maker] @ torch.tensor([1.0, 0.0])  # the vocabulary's first
    assert torch.equal(brighter, to_ge > 0.5)


def test_it_learns_what_another_scanner_does(bundle: LoadedBundle, cache: SliceCache, tmp_path: Path) -> None:
    losses: list[float] = []
    fitted(bundle, cache, tmp_path / "run", steps=300, losses=losses)
    assert len(losses) == 300
    assert sum(losses[-20:]) < 0.4 * sum(losses[:20])
    record = read_record(tmp_path / "run")
    assert (record.model, record.steps, record.synthetic) == ("tone", 300, True)
    assert record.segmenter == bundle.info.manifest.files["models/segmenter.safetensors"]


def test_a_fit_is_its_seed(bundle: LoadedBundle, cache: SliceCache, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first, second = (load_file(fitted(bundle, cache, tmp_path / n, steps=5, losses=[])) for n in "ab")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_it_cannot_learn_from_is_said(bundle: LoadedBundle, cache: SliceCache, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="another preprocessing"):
        fitted(bundle._replace(preprocessing=Preprocessing()), cache, tmp_path / "a", steps=1, losses=[])
    with pytest.raises(TrainError, match="scanned twice"):
        examples_of(cache, cache.rows[::2], bundle.encoding, Tone(nn.Identity(), Right()), untracked)
    paper = load_bundle(pack_tiny(tmp_path / "paper", "sdedit"))
    with pytest.raises(TrainError, match="direct editor"):
        fitted(paper, cache, tmp_path / "c", steps=1, losses=[])
    empty = cache.rows[:0]
    with pytest.raises(TrainError, match="scanned twice"):
        examples_of(cache, empty, bundle.encoding, Tone(nn.Identity(), Right()), untracked)
    spoilt = replace(cache, cleans=np.full_like(cache.cleans, np.nan))
    for _ in range(2):  # a fit that failed leaves nothing that stands in the way of the next
        with pytest.raises(TrainError, match="not finite"):
            fitted(bundle, spoilt, tmp_path / "spoilt", steps=1, losses=[])
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError):
        fitted(bundle, cache, tmp_path / "there", steps=1, losses=[])


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    words = ["tone", pack_tiny(tmp_path), "--cohort", tmp_path / "none", "--run", tmp_path / "run"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 1
    assert "none" in result.stderr


def test_from_a_cohort_to_a_bundle_with_tone(tmp_path: Path) -> None:
    write_fake_cache(tmp_path / "cohort" / "cache", women=8, size=224)
    bundle = pack_tiny(tmp_path / "first")
    command("tone", bundle, "--cohort", tmp_path / "cohort", "--run", tmp_path / "tone", "--steps", "2")
    runs = [word for name in MODELS for word in (f"--{name}", bundle.parent / "runs" / name)]
    command("pack", tmp_path / "second", *runs, "--tone", tmp_path / "tone")
    assert load_bundle(tmp_path / "second").tone is not None

"""Held-out pairs: a slice under two protocols of one site, with the noiseless truth and its tissues.

They come from a cache, or are simulated in memory as ``reacquire-train cohort`` draws its interventions; these know the
muscle, which masks do not have. Women are simulated, or label volumes of real ones (development data: figures may be
published, the volumes not).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from reacquire.iap import Record, load_vocabulary
from reacquire.imaging import Preprocessing
from reacquire.phantom import Subject, make_subject
from reacquire.phantom.cohort import draw_scans
from reacquire.phantom.labelmap import label_map_subject
from reacquire.phantom.pair import Pair, make_pair, tissue_map
from reacquire.phantom.render import place_grid
from reacquire.physics.tissue import MUSCLE
from training.cache import Row, SliceCache
from training.evaluation.bench import draw_pairs

TISSUES = ("background", "fat", "fibroglandular", "muscle")
IMAGES = ("source", "target", "truth", "tissues")
SCANS = 3  # protocols of a woman, of which a pair takes two


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Pairs at model size, row by row.

    Attributes
    ----------
    source, target, truth : (N, 1, S, S) float32, normalised; ``truth`` is the target without noise, on its scale
    tissues : (N, 1, S, S) long, indices into ``TISSUES``
    women : (N,) who it is
    source_iap, target_iap : N records
    """

    source: Tensor
    target: Tensor
    truth: Tensor
    tissues: Tensor
    women: tuple[int, ...]
    source_iap: tuple[Record, ...]
    target_iap: tuple[Record, ...]

    def __len__(self) -> int:
        return len(self.women)


def simulated_women(count: int, seed: int) -> Iterable[tuple[int, Subject]]:
    """(number, woman) of ``count`` women of a cohort seed."""
    for woman in range(count):
        rng = np.random.default_rng([seed, woman, 0xC0])
        yield woman, make_subject(int(rng.integers(2**31)))


def real_anatomies(folder: Path, seed: int) -> Iterable[tuple[int, Subject]]:
    """(number, subject) of every label volume ``anatomy_NN.nii.gz`` in a folder."""
    import nibabel  # of the development extra: nothing that ships reads NIfTI

    for path in sorted(folder.glob("anatomy_*.nii.gz")):
        number = int(path.name.removeprefix("anatomy_").partition(".")[0])
        stored = nibabel.nifti1.Nifti1Image.from_filename(path)
        volume = np.asanyarray(stored.dataobj)
        yield number, label_map_subject(volume, stored.affine, seed=seed + number)


def draw_held_out(
    women: Iterable[tuple[int, Subject]],
    preprocessing: Preprocessing,
    *,
    per_woman: int,
    seed: int,
) -> HeldOut:
    """``per_woman`` pairs of each woman, at positions spread over her breasts; the same ones each time."""
    rows = []
    for woman, subject in women:
        rng = np.random.default_rng([seed, woman, 0x9A])
        scans = draw_scans(rng, SCANS, "interventions")
        low, high = subject.z_range
        for number in range(per_woman):
            z_mm = low + (high - low) * (number + rng.uniform(0.1, 0.9)) / per_woman
            a, b = rng.permutation(SCANS)[:2]
            pair = make_pair(subject, float(z_mm), scans[a], scans[b], seed=int(rng.integers(2**31)))
            rows.append((woman, *_at_model_size(pair, subject, preprocessing)))
    return _stacked(rows)


def pairs_of_cache(cache: SliceCache, rows: Sequence[Row], *, per_woman: int) -> HeldOut:
    """The pairs that ``reacquire-train evaluate`` draws from the same rows; masks know no muscle, so none is there.

    Raises
    ------
    ValueError
        When the cohort has no noiseless truth.
    """
    if cache.cleans is None:
        raise ValueError("the cohort has no noiseless truth")
    pairs = draw_pairs(rows, per_woman)
    stored = [
        (
            pair.source.woman,
            cache.images[pair.source.index],
            cache.images[pair.target.index],
            cache.cleans[pair.target.index],
            cache.labels[pair.target.index],
            pair.source.iap,
            pair.target.iap,
        )
        for pair in pairs
    ]
    return _stacked(stored)


def _at_model_size(pair: Pair, subject: Subject, preprocessing: Preprocessing) -> tuple:
    source = preprocessing.forward(pair.source.image)
    target = preprocessing.forward(pair.target.image)
    truth = preprocessing.on_scale_of(pair.target.clean, target)
    tissues = preprocessing.forward_labels(_tissues(pair, subject))
    recognise = load_vocabulary().recognise
    return (
        source.values,
        target.values,
        truth,
        tissues,
        recognise(dict(pair.source.protocol.iap)),
        recognise(dict(pair.target.protocol.iap)),
    )


def _tissues(pair: Pair, subject: Subject) -> np.ndarray:
    """Labels (R, R) of the target: its own, and muscle outside of the breast."""
    simulated = pair.target
    muscle = tissue_map(subject, simulated.origin_mm[0], place_grid(subject, simulated.protocol)) == MUSCLE
    return np.where((simulated.labels == 0) & muscle, np.uint8(3), simulated.labels)


def _stacked(rows: Sequence[tuple]) -> HeldOut:
    women, source, target, truth, tissues, source_iap, target_iap = zip(*rows, strict=True)
    images = (_images(source, np.float32), _images(target, np.float32), _images(truth, np.float32))
    return HeldOut(*images, _images(tissues, np.int64), women, source_iap, target_iap)


def _images(planes: Sequence[np.ndarray], dtype: type) -> Tensor:
    return torch.from_numpy(np.stack(planes).astype(dtype))[:, None]


def save_pairs(pairs: HeldOut, path: Path) -> None:
    """One safetensors file; who and how lies in its metadata."""
    facts = {name: getattr(pairs, name) for name in ("women", "source_iap", "target_iap")}
    save_file({name: getattr(pairs, name) for name in IMAGES}, path, {"pairs": json.dumps(facts)})


def load_pairs(path: Path) -> HeldOut:
    """The inverse of ``save_pairs``."""
    with safe_open(path, framework="pt") as stored:
        facts = json.loads(stored.metadata()["pairs"])
        source, target, truth, tissues = (stored.get_tensor(name) for name in IMAGES)
    women, source_iap, target_iap = (tuple(facts[name]) for name in ("women", "source_iap", "target_iap"))
    return HeldOut(source, target, truth, tissues, women, source_iap, target_iap)

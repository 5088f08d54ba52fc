"""Copies of training slices that look like the other vendor's: counterfactuals, or the other vendor's grey values.

A copy is normalised as every slice is that a network sees. Targets are whole protocols of the other vendor's *training*
women, each woman with the same weight; the authors drew from all women of the other vendor, those who are tested on
included (docs/paper.md row 21).
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.exposure import match_histograms

from reacquire.errors import PixelError
from reacquire.imaging import Preprocessing
from reacquire.transforms import TargetPool
from reacquire.transforms.editor import IAPEditor
from training.augment.plan import uniform
from training.cache import Row, SliceCache
from training.downstream.data import Direction, DownstreamError

SEED = 0  # of targets, references and noise: copies are the same for every seed of the training
Track = Callable[[Iterable, str], Iterable]


def counterfactual_copies(
    cache: SliceCache, direction: Direction, pool: TargetPool, editor: IAPEditor, *, copies: int, track: Track
) -> NDArray[np.float16]:
    """(K * N, S, S): every training slice as the other vendor would have shown it, ``copies`` times.

    As in ``reacquire-train augment``, all slices of a scan get one target. With the editor's store a run that was
    broken off makes the missing ones only.
    """
    scans = defaultdict(list)
    for position, row in enumerate(direction.train):
        scans[f"{row.woman}/{json.dumps(row.iap, sort_keys=True)}"].append((position, row))
    result = np.empty((copies, len(direction.train), *cache.images.shape[1:]), np.float16)
    for name, members in track(sorted(scans.items()), f"counterfactuals of {direction.other}"):
        positions, rows = zip(*members, strict=True)
        images = np.asarray(cache.images[[row.index for row in rows]], np.float32)
        for copy in range(copies):
            target = pool.draw(uniform(SEED, name, copy))
            edited, _ = editor.edit(images, target, seed=copy, source=rows[0].iap)
            result[copy, list(positions)] = _normalised(cache, edited, direction)
    return result.reshape(-1, *cache.images.shape[1:])


def histogram_copies(cache: SliceCache, direction: Direction, *, copies: int, track: Track) -> NDArray[np.float16]:
    """(K * N, S, S): every training slice with the grey values of a slice of another woman by the other vendor.

    Raises
    ------
    DownstreamError
        When the other vendor has no training woman.
    """
    matched = []
    for copy in range(copies):
        for row in track(direction.train, f"histograms of {direction.other}"):
            reference = cache.images[_reference(row, direction, copy).index]
            matched.append(match_histograms(np.asarray(cache.images[row.index], float), np.asarray(reference, float)))
    return _normalised(cache, np.stack(matched), direction)


def _reference(row: Row, direction: Direction, copy: int) -> Row:
    others = [other for other in direction.foreign if other.woman != row.woman]
    if not others:
        raise DownstreamError(f"no training woman was scanned by {direction.other}: nothing to match histograms with")
    return others[int(np.random.default_rng([SEED, row.index, copy]).integers(len(others)))]


def _normalised(cache: SliceCache, images: NDArray, direction: Direction) -> NDArray[np.float16]:
    preprocessing = Preprocessing.from_dict(cache.preprocessing)
    try:
        return np.stack([preprocessing.forward(image).values for image in images]).astype(np.float16)
    except PixelError as error:
        raise DownstreamError(
            f"a copy that should look like {direction.other} shows nothing ({error.detail})"
        ) from error


def bundle_editor(bundle: Path, cache: SliceCache, *, device: str, store: Path) -> IAPEditor:
    """The bundle's editor for slices of this cache.

    Raises
    ------
    DownstreamError
        When its weights take slices of another preprocessing.
    """
    editor = IAPEditor(bundle, device, store=store)
    if editor.info.manifest.preprocessing.sha256 != Preprocessing.from_dict(cache.preprocessing).sha256:
        raise DownstreamError(f"{bundle} was trained on slices of another preprocessing than the cohort's cache")
    return editor

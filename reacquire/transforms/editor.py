"""``IAPEditor``: counterfactuals of plain arrays, for pipelines that have no DICOM file any more.

Its numbers are those of the service: the same preprocessing, editor and completion of the target. The networks are
loaded by the process that first needs them, so that an editor travels to DataLoader workers as a few strings.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reacquire.bundles.store import BundleInfo, open_bundle
from reacquire.diffusion import Seed, SliceSeed, derive_seed
from reacquire.diffusion.noise import NEIGHBOURS
from reacquire.engine import Pipeline, Settings, load_pipeline
from reacquire.errors import PixelError, TargetError
from reacquire.iap import Record, Value, Vocabulary, load_vocabulary, resolve_target
from reacquire.imaging import ModelImage
from reacquire.jobs.spec import Options
from reacquire.transforms.store import EditStore
from reacquire.transforms.targets import TargetPool

_LOADED: dict[tuple[int, str, str], Pipeline] = {}  # by process: a fork must not use its parent's CUDA context


@dataclass(frozen=True)
class IAPEditor:
    """Edits images with the bundle in ``bundle``.

    Parameters
    ----------
    bundle : path
        Folder of a bundle, e.g. ``bundles/phantom-v1``.
    device : str
        "cpu" or "cuda[:n]". DataLoader workers that use CUDA must be spawned, not forked.
    options : Options
        Sampler, steps and guidance scale; what is None follows the bundle. Its seed is not used.
    store : path or None
        Folder in which finished edits are kept and looked up.
    """

    bundle: Path
    device: str = "cpu"
    options: Options = field(default_factory=Options)
    store: Path | None = None

    @cached_property
    def info(self) -> BundleInfo:
        """The verified bundle; no network is loaded for it."""
        return open_bundle(Path(self.bundle))

    @property
    def vocabulary(self) -> Vocabulary:
        """What targets may be written in."""
        return load_vocabulary(self.info.manifest.vocabulary.name)

    @property
    def pipeline(self) -> Pipeline:
        """The bundle's networks in this process, shared by all editors of the process."""
        key = (os.getpid(), str(self.bundle), self.device)
        if key not in _LOADED:
            _LOADED[key] = load_pipeline(Path(self.bundle), device=self.device)
        return _LOADED[key]

    def check(self, targets: TargetPool) -> None:
        """Refuse targets that the bundle cannot show, before any training starts.

        Raises
        ------
        TargetError
            Naming the keyword.
        """
        for record in targets.records:
            for keyword, value in self.vocabulary.validate(record).items():
                if value in self.info.unseen.get(keyword, ()):
                    name = self.info.name
                    raise TargetError(f"{name} was never shown this {keyword}; leave it out", where=keyword)

    def edit(
        self, slices: NDArray[Any], target: Record, *, seed: Seed, source: Record | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Value]]:
        """The slices of one image as they would look under ``target``.

        Parameters
        ----------
        slices : (N, R, C) array
            Canonical view, any intensity scale. Slices without contrast (empty ends of a volume) stay as they are.
        target : record
            What to change; the rest is completed from ``source``, then from the predictor's reading of the slices.
        seed : int or SliceSeed
            Of the noise: a number gives every image noise of its own, by its content; a ``SliceSeed`` says which noise
            and where the first slice lies. Neighbouring slices share part of it (``reacquire.diffusion.noise``).
        source : record or None
            The parameters that the image was acquired with, as far as they are known.

        Returns
        -------
        (N, R, C) float32 on the scale of ``slices``, and the complete target

        Raises
        ------
        TargetError
            For a target outside the vocabulary.
        """
        slices = np.ascontiguousarray(slices, dtype=np.float32)
        seed = seed if isinstance(seed, SliceSeed) else noise_of_image(seed, slices)
        if self.store is None:
            return self._edit(slices, target, seed, source or {})
        store = EditStore(Path(self.store))
        key = EditStore.key(slices, self._facts(target, seed, source or {}))
        found = store.get(key)
        if found is None or found[0].shape != slices.shape:
            found = self._edit(slices, target, seed, source or {})
            store.put(key, *found)
        return found

    def _facts(self, target: Record, seed: SliceSeed, source: Record) -> dict[str, Any]:
        return {
            "bundle": self.info.sha256,
            "options": self.options.model_dump(exclude={"seed", "samples"}),
            "target": dict(target),
            "source": dict(source),
            "seed": seed,
            "noise": NEIGHBOURS,
        }

    def _edit(
        self, slices: NDArray[np.float32], target: Record, seed: SliceSeed, source: Record
    ) -> tuple[NDArray[np.float32], dict[str, Value]]:
        pipeline = self.pipeline
        pipeline.editor.check(self.options)
        images = [_normalised(pipeline, pixels) for pixels in slices]
        kept = [i for i, image in enumerate(images) if image is not None]
        before = [image for image in images if image is not None]
        edited = slices.copy()
        pixels = torch.from_numpy(np.stack([image.values for image in before]))[:, None] if before else None
        seen = self._seen(pipeline, source, pixels)
        resolved = dict(resolve_target(pipeline.vocabulary, target=target, **seen).values)
        if pixels is None:
            return edited, resolved
        own = resolve_target(pipeline.vocabulary, target={}, **seen).values
        settings = Settings.of(self.options, pipeline.editor.setup)
        parts = []
        seeds = [_at(seed, i) for i in kept]
        for start in range(0, len(seeds), pipeline.slices_per_batch):
            chunk = slice(start, start + pipeline.slices_per_batch)
            part, count = pixels[chunk].to(pipeline.device), len(seeds[chunk])
            parts.append(pipeline.editor.edit(part, [resolved] * count, seeds[chunk], settings, sources=[own] * count))
        after = torch.cat(parts)[:, 0].cpu()
        for i, image, result in zip(kept, before, after.numpy(), strict=True):
            edited[i] = pipeline.preprocessing.add_change(slices[i], image, result)
        return edited, resolved

    def _seen(
        self, pipeline: Pipeline, source: Record, pixels: torch.Tensor | None
    ) -> dict[Literal["header", "predicted"], Mapping[str, Value]]:
        """What is known of the image; the predictor is asked only where the source leaves something open."""
        vocabulary, unseen = pipeline.vocabulary, pipeline.bundle.unseen
        header = {k: v for k, v in vocabulary.recognise(source).items() if v not in unseen.get(k, ())}
        predicted: Mapping[str, Value] = {}
        if pixels is not None and not set(vocabulary.keywords) <= set(header):
            parts = pixels.split(pipeline.slices_per_batch)
            outputs = torch.cat([pipeline.predictor.outputs(part.to(pipeline.device)) for part in parts])
            predicted = pipeline.predictor.read(outputs).values
        return {"header": header, "predicted": predicted}


def noise_of_image(seed: int, slices: NDArray[np.float32]) -> SliceSeed:
    """The noise of one image under a user's seed: another image must not get the same grain.

    An image is told from others by where each of its rows is brightest, which no intensity scale changes.
    """
    digest = hashlib.sha256(slices.argmax(axis=2).astype("<u4").tobytes()).digest()
    return SliceSeed(derive_seed(seed, int.from_bytes(digest[:8], "big")), 0.0)


def _at(seed: SliceSeed, index: int) -> SliceSeed:
    """The seed of the ``index``-th slice of an image."""
    return seed._replace(position=seed.position + index)


def _normalised(pipeline: Pipeline, pixels: NDArray[np.float32]) -> ModelImage | None:
    """The slice at model size, or None where there is nothing to see."""
    try:
        return pipeline.preprocessing.forward(pixels)
    except PixelError as error:
        if error.code != "degenerate-image":
            raise
        return None

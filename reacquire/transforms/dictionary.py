"""``RandIAPCounterfactuald``: other people's scanners as a random augmentation, for MONAI's ``Compose``."""

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type
from numpy.typing import NDArray

from reacquire.iap import Continuous, Record, Value
from reacquire.jobs.spec import Options
from reacquire.transforms.axes import CANONICAL, Axes
from reacquire.transforms.editor import IAPEditor
from reacquire.transforms.targets import TargetPool


class RandIAPCounterfactuald(RandomizableTransform, MapTransform):
    """Show the image, with probability ``prob``, as another scanner or protocol would have.

    Put it where intensities are still those of the image file or any affine scale of them, and before spatial
    augmentations. Labels are not touched: the anatomy stays, so they remain valid. The applied target is put into
    ``{key}_iap`` (all keywords of the vocabulary; "" or NaN where unknown, the source's own values where the image was
    left alone) and whether it was applied into ``{key}_counterfactual``: never train a parameter predictor on the
    source's parameters of an edited image.

    Parameters
    ----------
    keys : keys of the images
        (1, H, W) slices or (1, H, W, D) volumes, edited slice by slice under one field of noise. Several keys get
        one target.
    bundle : path
        Folder of a bundle; every DataLoader worker loads its networks when it first needs them.
    targets : TargetPool, or sequence of records
        What to draw from; ``TargetPool.from_manifest`` draws as often as the training patients were scanned so.
    prob : float
        Probability of an edit.
    source_key : str or None
        Key of the parameters that an item was acquired with (a record by DICOM keyword).
    source : record or None
        The same for all items. With neither, the bundle's predictor reads them from the pixels.
    seeds : int
        How many different noise seeds there are. With ``store`` the work per image is bounded by
        ``len(targets) * seeds`` edits.
    store : path or None
        Folder in which finished edits are kept; may be shared by workers, epochs and runs.
    axes : str or None
        Directions of growing indices, e.g. "PL" (rows to posterior, columns to the left) or "RAS". None: of the affine
        of a MetaTensor, else "PL" / "PLS".
    device : str
        Of the networks. "cuda" in DataLoader workers needs ``multiprocessing_context="spawn"``.
    options : Options or None
        Sampler, steps, guidance scale; the bundle's own by default.

    Raises
    ------
    TargetError
        For a target that the bundle cannot show.
    KeyError
        For an item without ``source_key``.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(
        self,
        keys: KeysCollection,
        bundle: Path | str,
        targets: TargetPool | Sequence[Record],
        prob: float = 0.5,
        *,
        source_key: str | None = None,
        source: Record | None = None,
        seeds: int = 1,
        store: Path | str | None = None,
        axes: str | None = None,
        device: str = "cpu",
        options: Options | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if seeds < 1:
            raise ValueError("seeds must be at least 1")
        self.targets = targets if isinstance(targets, TargetPool) else TargetPool.of(targets)
        self.source_key, self.source, self.seeds = source_key, dict(source or {}), seeds
        self.axes = Axes(axes) if axes else None
        self.editor = IAPEditor(Path(bundle), device, options or Options(), Path(store) if store else None)
        self.editor.check(self.targets)
        self.target: Mapping[str, Value] = {}
        self.seed = 0

    def randomize(self, data: Any = None) -> None:  # noqa: ARG002 (the signature of Randomizable)
        """Draw whether, which target and which seed; the same number of draws in any case."""
        super().randomize(None)
        self.target = self.targets.draw(float(self.R.random_sample()))
        self.seed = int(self.R.randint(self.seeds))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        items = dict(data)
        self.randomize()
        source = known_values(self._source_of(items))
        for key in self.key_iterator(items):
            values: Mapping[str, Value] = source
            if self._do_transform:
                items[key], values = self._edited(items[key], source)
            items[f"{key}_iap"] = self._complete(values)
            items[f"{key}_counterfactual"] = self._do_transform
        return items

    def _source_of(self, item: Mapping[Hashable, Any]) -> Record:
        if self.source_key is None:
            return self.source
        if self.source_key not in item:
            raise KeyError(
                f"the item has no {self.source_key!r}, the source_key; put the parameters that it was acquired "
                "with there, or leave source_key out and the predictor reads them from the pixels"
            )
        record: Record = item[self.source_key]
        return record

    def _edited(self, image: Any, source: Record) -> tuple[Any, Mapping[str, Value]]:
        if image.ndim not in (3, 4) or image.shape[0] != 1:
            raise ValueError(f"an image must be (1, H, W) or (1, H, W, D), not {tuple(image.shape)}")
        axes = self.axes or axes_of(image)
        array = np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image)[0]
        slices, target = self.editor.edit(axes.to_slices(array), self.target, seed=self.seed, source=source)
        edited = fitted(axes.from_slices(slices), array.dtype)[None]
        return convert_to_dst_type(edited, image)[0], target

    def _complete(self, values: Record) -> dict[str, Value]:
        """Every keyword of the vocabulary, so that batches can be collated."""
        return {
            p.keyword: values.get(p.keyword, math.nan if isinstance(p, Continuous) or p.tolerance else "")
            for p in self.editor.vocabulary.parameters
        }


def axes_of(image: Any) -> Axes:
    """The axes of an image with a channel axis: those of its affine, if it has one."""
    dimensions = image.ndim - 1
    if isinstance(image, MetaTensor):
        return Axes.of_affine(np.asarray(image.affine.cpu()), dimensions)
    return Axes(CANONICAL + "S"[: dimensions - 2])


def fitted(pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The pixels in another type; whole numbers are rounded and kept within its range."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return np.rint(np.clip(pixels.astype(np.float64), limits.min, limits.max)).astype(dtype)
    return pixels.astype(dtype)


def known_values(record: Record) -> dict[str, Value]:
    """A record without the placeholders for unknown values."""
    return {k: v for k, v in record.items() if v is not None and v != "" and v == v}

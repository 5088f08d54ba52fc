"""The same augmentation for TorchIO (the extra ``reacquire[torchio]``): random, and as the one that it applied.

TorchIO keeps a history of what was done to a subject; what enters it here is the target and the seed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchio import ScalarImage, Subject
from torchio.transforms import IntensityTransform
from torchio.transforms.augmentation import RandomTransform

from reacquire.iap import Record, Value
from reacquire.jobs.spec import Options
from reacquire.transforms.axes import Axes
from reacquire.transforms.dictionary import known_values
from reacquire.transforms.editor import IAPEditor
from reacquire.transforms.targets import TargetPool


class IAPCounterfactual(IntensityTransform):
    """Show every intensity image of a subject under ``target``.

    Parameters
    ----------
    bundle : path
        Folder of a bundle.
    target : record
        By DICOM keyword; the complete one is put into the subject as ``{image name}_iap``.
    seed : int
        Of the noise, shared by the slices of a volume.
    source_key : str or None
        Attribute of the subject that holds the parameters that it was acquired with; None: read from the pixels.
    store, device, options
        As in ``RandIAPCounterfactuald``.
    kwargs
        Of every TorchIO transform: ``p``, ``include``, ``exclude``, ...
    """

    def __init__(
        self,
        bundle: Path | str,
        target: Record,
        seed: int = 0,
        source_key: str | None = None,
        store: Path | str | None = None,
        device: str = "cpu",
        options: Options | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bundle, self.target, self.seed, self.source_key = str(bundle), dict(target), seed, source_key
        self.store, self.device, self.options = store and str(store), device, options
        self.editor = IAPEditor(Path(bundle), device, options or Options(), Path(store) if store else None)
        self.editor.check(TargetPool.of([target]))
        self.args_names = ["bundle", "target", "seed", "source_key", "store", "device", "options"]

    def apply_transform(self, subject: Subject) -> Subject:
        record: Any = subject[self.source_key] if self.source_key else {}
        source = known_values(record)
        for name, image in self.get_images_dict(subject).items():
            subject[f"{name}_iap"] = self._edit(image, source)
        return subject

    def _edit(self, image: ScalarImage, source: Record) -> Mapping[str, Value]:
        if image.data.shape[0] != 1:
            raise ValueError(f"an image must have one channel, not {image.data.shape[0]}")
        axes = Axes.of_affine(np.asarray(image.affine), 3)
        slices = axes.to_slices(image.data[0].numpy())
        edited, target = self.editor.edit(slices, self.target, seed=self.seed, source=source)
        image.set_data(torch.from_numpy(axes.from_slices(edited))[None])
        return target


class RandomIAPCounterfactual(RandomTransform, IntensityTransform):
    """``IAPCounterfactual`` with a target drawn from ``targets`` and one of ``seeds`` noise seeds (torch's generator).

    Parameters
    ----------
    targets : TargetPool, or sequence of records
        What to draw from.
    p : float
        Probability of an edit, as in every TorchIO transform.
    """

    def __init__(
        self,
        bundle: Path | str,
        targets: TargetPool | Sequence[Record],
        seeds: int = 1,
        source_key: str | None = None,
        store: Path | str | None = None,
        device: str = "cpu",
        options: Options | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.targets = targets if isinstance(targets, TargetPool) else TargetPool.of(targets)
        self.seeds = seeds
        self.arguments: dict[str, Any] = {
            "bundle": str(bundle), "source_key": source_key, "store": store, "device": device, "options": options,
        }  # fmt: skip
        IAPEditor(Path(bundle), device, options or Options()).check(self.targets)

    def apply_transform(self, subject: Subject) -> Subject:
        base: dict[str, Any] = self._get_base_args()
        transform = IAPCounterfactual(
            target=self.targets.draw(float(torch.rand(1))),
            seed=int(torch.randint(self.seeds, (1,))),
            **self.arguments,
            **base,
        )
        return transform(subject)

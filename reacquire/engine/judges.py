"""The two networks that only look: which parameters an image shows, and where its tissues are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reacquire.engine.work import Prediction
from reacquire.iap import Categorical, EncodedIap, Encoding

CLASSES = ("background", "breast-non-fgt", "fibroglandular")


@dataclass(frozen=True)
class Predictor:
    """The multi-task ResNet-18 with the encoding that names its outputs."""

    network: nn.Module
    encoding: Encoding
    unseen: Mapping[str, Sequence[str | float]] = field(default_factory=dict)

    @torch.inference_mode()
    def outputs(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) normalised images -> (B, D) logits and scaled numbers."""
        return self.network(images).float().cpu()

    def read(self, outputs: Tensor) -> Prediction:
        """One prediction from the mean of (N, D) outputs: class probabilities and numbers averaged over slices.

        Manufacturer follows from the model where the encoding holds both, so that the two never contradict. Categories
        that the weights were never shown have probability 0.
        """
        vector = torch.zeros(outputs.shape[1])
        for parameter in self.encoding.parameters:
            part = self.encoding.slices[parameter.keyword]
            entries = outputs[:, part]
            if isinstance(parameter, Categorical):
                never = [c in self.unseen.get(parameter.keyword, ()) for c in parameter.categories]
                entries = entries.masked_fill(torch.tensor(never), -torch.inf)
            vector[part] = (entries.softmax(1) if isinstance(parameter, Categorical) else entries).mean(0)
        known = torch.ones(len(self.encoding.parameters), dtype=torch.bool)
        values = self.encoding.decode(EncodedIap(vector.numpy(), known.numpy()))
        maker = self.encoding.vocabulary.manufacturer_of(values["ManufacturerModelName"])
        if maker is not None:
            values["Manufacturer"] = maker
        probabilities = {
            p.keyword: float(vector[self.encoding.slices[p.keyword]][p.categories.index(values[p.keyword])])
            for p in self.encoding.parameters
            if isinstance(p, Categorical)
        }
        return Prediction(values, probabilities)


@dataclass(frozen=True)
class Segmenter:
    """The residual U-Net; classes are those of ``CLASSES``."""

    network: nn.Module

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) normalised images -> (B, 3, S, S)."""
        return self.network(images).float()

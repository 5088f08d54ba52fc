"""The breast-tissue segmenter: a residual U-Net with three classes (paper section 3.1.2).

Classes: 0 background and everything outside the breast, 1 fat of the breast, 2 fibroglandular tissue.
"""

from dataclasses import dataclass

from monai.networks.nets import UNet
from torch import nn

from reacquire.networks.config import NetworkConfig

CLASSES = 3


@dataclass(frozen=True)
class SegmenterConfig(NetworkConfig):
    """``channels`` from the finest level to the coarsest; every level halves the grid."""

    channels: tuple[int, ...]
    residual_units: int = 2
    classes: int = CLASSES


SEGMENTERS: dict[str, SegmenterConfig] = {
    "paper": SegmenterConfig(channels=(32, 64, 128, 256, 512, 512)),
    "default": SegmenterConfig(channels=(16, 32, 64, 128, 256)),
}


def build_segmenter(config: SegmenterConfig) -> nn.Module:
    """A segmenter with fresh weights: (B, 1, H, W) -> logits (B, classes, H, W), both sides divisible by 32 or 16."""
    return UNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=config.classes,
        channels=config.channels,
        strides=(2,) * (len(config.channels) - 1),
        num_res_units=config.residual_units,
        norm="batch",
    )

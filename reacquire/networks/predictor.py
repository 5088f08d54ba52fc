"""The acquisition-parameter predictor: a ResNet-18 whose one output vector has the layout of an encoded record.

Paper section 3.1.1, after Konz and Mazurowski (2024). Slicing the vector into parameters is `Encoding.slices`' task.
"""

from dataclasses import dataclass

from monai.networks.nets import ResNet
from torch import nn

from reacquire.networks.config import NetworkConfig
from reacquire.networks.denoiser import PAPER_WIDTHS
from reacquire.networks.direct import DEFAULT_WIDTHS


@dataclass(frozen=True)
class PredictorConfig(NetworkConfig):
    """``outputs`` is the width of the encoding; ``channels`` are those of the four residual stages."""

    outputs: int
    channels: tuple[int, ...]


PREDICTORS: dict[str, PredictorConfig] = {
    "paper": PredictorConfig(outputs=sum(PAPER_WIDTHS), channels=(64, 128, 256, 512)),
    "default": PredictorConfig(outputs=sum(DEFAULT_WIDTHS), channels=(32, 64, 128, 256)),
}


def build_predictor(config: PredictorConfig) -> nn.Module:
    """A predictor with fresh weights: (B, 1, H, W) -> (B, outputs).

    The entries of a categorical parameter are logits, that of a continuous one is its scaled value.
    """
    return ResNet(
        block="basic",
        layers=[2, 2, 2, 2],
        block_inplanes=list(config.channels),
        spatial_dims=2,
        n_input_channels=1,
        conv1_t_stride=2,
        num_classes=config.outputs,
    )

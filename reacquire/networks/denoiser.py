"""The authors' conditional diffusion U-Net.

Owns the architecture only. What its output means (noise, velocity, image) is a parameterisation's matter
(`reacquire.diffusion`).
"""

from dataclasses import dataclass, replace

from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from reacquire.networks.condition import Condition
from reacquire.networks.config import NetworkConfig
from reacquire.networks.tokens import masked_vector

# Widths of the parameters of vocabulary duke-v1, in the order of the encoded vector (layout "paper").
PAPER_WIDTHS = (8, 2, 9, 1, 1, 1, 1)


@dataclass(frozen=True)
class DenoiserConfig(NetworkConfig):
    """Shape of a denoiser.

    Parameters
    ----------
    parameter_widths : tuple of int
        Entries of each parameter in the encoded vector.
    in_channels : int
    channels, attention_levels, residual_blocks, head_channels, norm_groups
        Of the U-Net, from the finest level to the coarsest.
    flash_attention : bool
        PyTorch's fused attention, which never holds the attention matrix; False is the authors' CPU behaviour.
    """

    parameter_widths: tuple[int, ...]
    in_channels: int
    channels: tuple[int, ...]
    attention_levels: tuple[bool, ...]
    residual_blocks: int
    head_channels: int
    norm_groups: int
    flash_attention: bool = True

    @property
    def condition_width(self) -> int:
        """D, the length of the encoded vector."""
        return sum(self.parameter_widths)


DENOISERS: dict[str, DenoiserConfig] = {
    # Section 3.1.3 and the authors' training script: 36.5 M parameters, 133 GFLOP at 224 x 224.
    "paper": DenoiserConfig(
        parameter_widths=PAPER_WIDTHS,
        in_channels=1,
        channels=(64, 64, 128, 128, 256, 256),
        attention_levels=(False, False, True, False, True, False),
        residual_blocks=2,
        head_channels=8,
        norm_groups=32,
    ),
    # The same kind of network for slices of 64 pixels, whose training two CPU cores can finish: 0.35 M parameters.
    "paper-small": DenoiserConfig(
        parameter_widths=PAPER_WIDTHS,
        in_channels=1,
        channels=(8, 16, 32, 32),
        attention_levels=(False, False, True, False),
        residual_blocks=1,
        head_channels=8,
        norm_groups=8,
    ),
}
# Those that are shown the slice beside the noise.
DENOISERS |= {
    "structure": replace(DENOISERS["paper"], in_channels=2),
    "structure-small": replace(DENOISERS["paper-small"], in_channels=2),
}


class Denoiser(nn.Module):
    """A U-Net over noisy images that knows the timestep and the acquisition parameters.

    The whole encoded vector is one token of its cross-attention, and goes through a bias-free linear layer into the
    time embedding (the authors' "hybrid"). The last convolution starts at zero (as MONAI builds it), so an untrained
    network answers zero everywhere.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = _unet(config)
        embedding = nn.Sequential(nn.Linear(config.condition_width, config.channels[0] * 4, bias=False), nn.SiLU())
        self.unet.add_module("class_embedding", embedding)  # in place of MONAI's, which takes class indices

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Evaluate the network.

        Parameters
        ----------
        x : Tensor (B, in_channels, H, W)
            H and W divisible by ``2 ** (levels - 1)``.
        t : Tensor (B,) or (1,), long
            Index into the noise schedule; 0 is the least noise.
        condition : Condition
            Of B rows.

        Returns
        -------
        Tensor (B, 1, H, W)
        """
        vector = masked_vector(condition, self.config.parameter_widths).to(x.dtype)
        return self.unet(x, t, context=vector[:, None, :], class_labels=vector)


def _unet(config: DenoiserConfig) -> DiffusionModelUNet:
    """MONAI's U-Net; the caller replaces its class embedding, which takes class indices, by one for vectors."""
    return DiffusionModelUNet(
        spatial_dims=2,
        in_channels=config.in_channels,
        out_channels=1,
        num_res_blocks=config.residual_blocks,
        channels=config.channels,
        attention_levels=config.attention_levels,
        norm_num_groups=config.norm_groups,
        num_head_channels=config.head_channels,
        with_conditioning=True,
        transformer_num_layers=1,
        cross_attention_dim=config.condition_width,
        num_class_embeds=1,
        use_flash_attention=config.flash_attention,
    )


def build_denoiser(config: DenoiserConfig) -> Denoiser:
    """A denoiser with fresh weights, in training mode, on the current default device."""
    return Denoiser(config)


def parameter_count(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

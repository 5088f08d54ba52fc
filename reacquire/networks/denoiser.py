"""The conditional diffusion U-Net: the authors' network and a slim one that a CPU can bear, from one configuration.

Owns the architecture only. What its output means (noise, velocity, residual) is a parameterisation's matter
(`reacquire.diffusion`), and what its second input channel holds is the caller's.
"""

from dataclasses import dataclass
from typing import Literal

from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn
from torch.nn.functional import silu

from reacquire.networks.condition import Condition
from reacquire.networks.config import NetworkConfig
from reacquire.networks.tokens import ParameterTokens, masked_vector

Conditioning = Literal["vector", "tokens"]

# Widths of the parameters of vocabulary duke-v1, in the order of the encoded vector (layouts "paper" and "default").
PAPER_WIDTHS = (8, 2, 9, 1, 1, 1, 1)
DEFAULT_WIDTHS = (2, 8, 2, 9, 1, 1, 1, 1)


@dataclass(frozen=True)
class DenoiserConfig(NetworkConfig):
    """Shape of a denoiser.

    Parameters
    ----------
    conditioning : {"vector", "tokens"}
        ``vector`` feeds the whole encoded vector as one token, and through a bias-free linear layer into the time
        embedding (the authors' "hybrid"); ``tokens`` gives every parameter a token of its own with a learned null.
    parameter_widths : tuple of int
        Entries of each parameter in the encoded vector; 1 means continuous.
    in_channels : int
        1 for the noisy image alone, 2 with the source image beside it.
    channels, attention_levels, residual_blocks, head_channels, norm_groups
        Of the U-Net, from the finest level to the coarsest.
    token_width : int
        Width of a token; unused (0) for ``vector``.
    flash_attention : bool
        PyTorch's fused attention, which never holds the attention matrix; False is the authors' CPU behaviour.
    """

    conditioning: Conditioning
    parameter_widths: tuple[int, ...]
    in_channels: int
    channels: tuple[int, ...]
    attention_levels: tuple[bool, ...]
    residual_blocks: int
    head_channels: int
    norm_groups: int
    token_width: int = 0
    flash_attention: bool = True

    def __post_init__(self) -> None:
        if self.conditioning not in ("vector", "tokens"):
            raise ValueError(f"conditioning must be 'vector' or 'tokens', not {self.conditioning!r}")
        if (self.conditioning == "tokens") != (self.token_width > 0):
            raise ValueError("token_width belongs to conditioning 'tokens', which needs it")

    @property
    def condition_width(self) -> int:
        """D, the length of the encoded vector."""
        return sum(self.parameter_widths)


DENOISERS: dict[str, DenoiserConfig] = {
    # Section 3.1.3 and the authors' training script: 36.5 M parameters, 133 GFLOP at 224 x 224.
    "paper": DenoiserConfig(
        conditioning="vector",
        parameter_widths=PAPER_WIDTHS,
        in_channels=1,
        channels=(64, 64, 128, 128, 256, 256),
        attention_levels=(False, False, True, False, True, False),
        residual_blocks=2,
        head_channels=8,
        norm_groups=32,
    ),
    # Attention only where a slice has 784 tokens or fewer, in heads wide enough to pay for themselves.
    "default": DenoiserConfig(
        conditioning="tokens",
        parameter_widths=DEFAULT_WIDTHS,
        in_channels=2,
        channels=(16, 32, 64, 64, 128),
        attention_levels=(False, False, False, True, True),
        residual_blocks=1,
        head_channels=64,
        norm_groups=8,
        token_width=64,
    ),
}


class AdaptiveHead(nn.Module):
    """Normalisation, scale and shift by the condition, and the last convolution (the final layer of DiT, Peebles and
    Xie 2023): contrast is a product of what is there and how it is weighted, which added embeddings learn slowly.

    Scale and shift start at identity, the convolution at zero.
    """

    def __init__(self, channels: int, groups: int, condition_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.film = nn.Linear(condition_width, 2 * channels)
        self.conv = nn.Conv2d(channels, 1, 3, padding=1)
        for layer in (self.film, self.conv):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # both have one

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """(B, channels, H, W) features and (B, condition_width) embedding -> (B, 1, H, W)."""
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        return self.conv(silu(self.norm(features) * (1 + scale) + shift))


class Denoiser(nn.Module):
    """A U-Net over noisy images that knows the timestep and the acquisition parameters.

    The last convolution starts at zero (as MONAI builds it), so an untrained network answers zero everywhere. With
    ``tokens`` an `AdaptiveHead` takes the place of MONAI's output layer.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        time_width = config.channels[0] * 4
        self.unet = _unet(config)
        embedding: nn.Module
        if config.conditioning == "vector":
            embedding = nn.Sequential(nn.Linear(config.condition_width, time_width, bias=False), nn.SiLU())
        else:
            self.tokens = ParameterTokens(config.parameter_widths, config.token_width)
            embedding = nn.Sequential(
                nn.Flatten(),
                nn.Linear(len(config.parameter_widths) * config.token_width, time_width),
                nn.SiLU(),
                nn.Linear(time_width, time_width),
            )
            self.unet.out = nn.Identity()  # type: ignore[assignment]  # MONAI declares what it builds
            self.head = AdaptiveHead(config.channels[0], config.norm_groups, time_width)
        self.unet.add_module("class_embedding", embedding)  # in place of MONAI's, which takes class indices

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Evaluate the network.

        Parameters
        ----------
        x : Tensor (B, in_channels, H, W)
            Noisy image first; H and W divisible by ``2 ** (levels - 1)``.
        t : Tensor (B,) or (1,), long
            Index into the noise schedule; 0 is the least noise.
        condition : Condition
            Of B rows.

        Returns
        -------
        Tensor (B, 1, H, W)
        """
        if self.config.conditioning == "vector":
            vector = masked_vector(condition, self.config.parameter_widths).to(x.dtype)
            return self.unet(x, t, context=vector[:, None, :], class_labels=vector)
        tokens = self.tokens(condition).to(x.dtype)
        features = self.unet(x, t, context=tokens, class_labels=tokens)
        return self.head(features, self.unet.class_embedding(tokens))


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
        cross_attention_dim=config.token_width or config.condition_width,
        num_class_embeds=1,
        use_flash_attention=config.flash_attention,
    )


def build_denoiser(config: DenoiserConfig) -> Denoiser:
    """A denoiser with fresh weights, in training mode, on the current default device."""
    return Denoiser(config)


def parameter_count(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

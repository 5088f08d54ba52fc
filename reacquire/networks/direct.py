"""A network that edits a slice in one evaluation: what it looked like, how it was acquired, how it should have been.

Contrast is a product of what is there and how it is weighted. So every block is scaled and shifted by the acquisition
parameters (FiLM, Perez et al. 2018), and the answer is a gain and an offset per pixel of the source (as in HDRNet,
Gharbi et al. 2017): anatomy comes from the source, not from the network. Part of both is decided per tissue: the
network says how likely each tissue is at each pixel, and the parameters what becomes of the tissue. Pixels are folded
into channels (Shi et al. 2016), which makes full resolution affordable on a CPU.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks.condition import Condition
from reacquire.networks.config import NetworkConfig
from reacquire.networks.signal import T1_MS, T2S_MS, SignalEquation
from reacquire.networks.tokens import ParameterTokens

# Widths of the parameters of vocabulary duke-v1, in the order of the encoded vector (layout "default").
DEFAULT_WIDTHS = (2, 8, 2, 9, 1, 1, 1, 1)
NOISE_START = -4.5  # softplus of it is 0.011, about what a slice has


@dataclass(frozen=True)
class DirectConfig(NetworkConfig):
    """Shape of a direct editor.

    Parameters
    ----------
    parameter_widths : tuple of int
        Entries of each parameter in the encoded vector; 1 means continuous.
    channels, blocks : tuple of int
        Per level, from the finest to the coarsest; each level halves the grid.
    token_width, embedding_width : int
        Of one parameter's token, and of the embedding of all of them.
    norm_groups : int
    fold : int
        The finest level has one cell for each ``fold`` x ``fold`` pixels.
    tissues : int
        Tissues that have a gain and an offset of their own; 0 (in bundles of before) for none.
    t1_ms, t2s_ms : tuple of float
        Relaxation times (ms), at 1.5 T and then at 3 T, of the tissues whose signal the network is told under the
        parameters, which are then those of vocabulary duke-v1; empty (in bundles of before) for none.
    """

    parameter_widths: tuple[int, ...]
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    token_width: int = 32
    embedding_width: int = 192
    norm_groups: int = 8
    fold: int = 2
    tissues: int = 0
    t1_ms: tuple[float, ...] = ()
    t2s_ms: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.blocks):
            raise ValueError("channels and blocks need one entry per level each")


EDITORS: dict[str, DirectConfig] = {
    "default": DirectConfig(
        DEFAULT_WIDTHS,
        channels=(32, 64, 96, 128, 160),
        blocks=(1, 1, 2, 2, 2),
        tissues=3,
        t1_ms=T1_MS,
        t2s_ms=T2S_MS,
    ),
}


def film(layer: nn.Linear, features: Tensor, embedding: Tensor) -> Tensor:
    """``features`` (B, C, H, W) scaled and shifted by what ``layer`` makes of the embedding; identity at zero."""
    scale, shift = layer(embedding)[:, :, None, None].to(features.dtype).chunk(2, dim=1)
    return torch.addcmul(shift, features, 1 + scale)


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # all of ours have one
    return layer


class Block(nn.Module):
    """Residual block whose inside is scaled and shifted by the embedding; the identity before training."""

    def __init__(self, channels: int, config: DirectConfig) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_groups, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = zeroed(nn.Linear(config.embedding_width, 2 * channels))
        self.second = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        inside = film(self.film, self.first(self.norm(x)), embedding)  # type: ignore[arg-type]
        return x + self.second(F.silu(inside))


class Stage(nn.ModuleList):
    """The blocks of one level, one after the other."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            x = block(x, embedding)
        return x


class DirectEditor(nn.Module):
    """U-Net over (source slice, source parameters, target parameters).

    Its last layers start at zero, so an untrained network changes nothing.
    """

    def __init__(self, config: DirectConfig) -> None:
        super().__init__()
        self.config = config
        width, channels = config.embedding_width, config.channels
        self.source_tokens = ParameterTokens(config.parameter_widths, config.token_width)
        self.target_tokens = ParameterTokens(config.parameter_widths, config.token_width)
        tokens = 2 * len(config.parameter_widths) * config.token_width
        self.embedding = nn.Sequential(nn.Linear(tokens, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        if config.t1_ms:
            self.equation = SignalEquation(Encoding(load_vocabulary()), config.t1_ms, config.t2s_ms)
            self.signal = nn.Sequential(
                nn.Linear(self.equation.count, width), nn.SiLU(), zeroed(nn.Linear(width, width))
            )
        self.stem = nn.Conv2d(config.fold**2 + 2, channels[0], 3, padding=1)
        levels = list(zip(channels, config.blocks, strict=True))
        self.encoder = nn.ModuleList(Stage(Block(c, config) for _ in range(n)) for c, n in levels)
        self.decoder = nn.ModuleList(Stage(Block(c, config) for _ in range(n)) for c, n in levels[:-1])
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.skip = nn.ModuleList(nn.Conv2d(fine, fine, 1) for fine, _ in pairs)
        self.context = nn.Sequential(
            nn.LayerNorm(channels[-1]), nn.Linear(channels[-1], width), nn.SiLU(), zeroed(nn.Linear(width, width))
        )
        self.norm = nn.GroupNorm(config.norm_groups, channels[0])
        self.film = zeroed(nn.Linear(width, 2 * channels[0]))
        self.head = zeroed(nn.Conv2d(channels[0], 2 * config.fold**2, 3, padding=1))
        if config.tissues:
            self.tissue_head = nn.Conv2d(channels[0], config.tissues * config.fold**2, 3, padding=1)
            self.tissue_change = nn.Sequential(
                nn.Linear(width, width), nn.SiLU(), zeroed(nn.Linear(width, 2 * config.tissues))
            )
        self.noise_film = zeroed(nn.Linear(width, 2 * channels[0]))
        self.noise_inside = nn.Conv2d(channels[0], channels[0], 3, padding=1)
        self.noise_head = zeroed(nn.Conv2d(channels[0], config.fold**2, 3, padding=1))

    def forward(self, image: Tensor, source: Condition, target: Condition) -> Tensor:
        """Evaluate the network.

        Parameters
        ----------
        image : (B, 1, H, W) float32, normalised; H and W divisible by ``fold``
        source, target : Condition
            Of B rows each; any parameter may be unknown.

        Returns
        -------
        (B, 2 + tissues, H, W) float32: the change to add to ``image``, and the standard deviation of the noise that the
        target acquisition would show, both on the scale of ``image``; then a logit per tissue
        """
        features, embedding = self._features(image, self._embedding(source, target))
        features = self.norm(features)
        inside = F.silu(film(self.film, features, embedding))  # type: ignore[arg-type]
        change = F.pixel_shuffle(self.head(inside).float(), self.config.fold)
        logits = change[:, :0]
        if self.config.tissues:
            logits = F.pixel_shuffle(self.tissue_head(F.silu(features)).float(), self.config.fold)
            change = change + self._change_of_tissues(logits, embedding)
        gain, offset = change.chunk(2, dim=1)
        # The noise level rides on features that were learned for the image; it must not bend them.
        noise = film(self.noise_film, self.noise_inside(inside.detach()), embedding.detach())  # type: ignore[arg-type]
        level = F.pixel_shuffle(self.noise_head(F.silu(noise)).float(), self.config.fold)
        return torch.cat([image * gain + offset, F.softplus(level + NOISE_START), logits], dim=1)

    def _embedding(self, source: Condition, target: Condition) -> Tensor:
        """(B, embedding_width) of both parameter sets; the signal equation enters before the first activation."""
        tokens = (self.source_tokens(source), self.target_tokens(target))
        first, *rest = self.embedding
        embedding = first(torch.cat([t.flatten(1) for t in tokens], dim=1))
        if self.config.t1_ms:
            embedding = embedding + self.signal(self.equation(source, target).to(embedding.dtype))
        for layer in rest:
            embedding = layer(embedding)
        return embedding

    def _change_of_tissues(self, logits: Tensor, embedding: Tensor) -> Tensor:
        """Gain and offset (B, 2, H, W): each tissue's own, weighted by how likely it is (B, tissues, H, W)."""
        own = self.tissue_change(embedding).float().unflatten(1, (2, self.config.tissues))
        return torch.einsum("bkt,bthw->bkhw", own, logits.softmax(1))

    def _features(self, image: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Features on the finest grid, and the embedding enriched by what the coarsest level saw."""
        x = torch.cat([F.pixel_unshuffle(image, self.config.fold), _position(image, self.config.fold)], dim=1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for number, stage in enumerate(self.encoder):
            x = stage(x, embedding)
            if number < len(self.down):
                skips.append(x)
                x = self.down[number](x)
        embedding = embedding + self.context(x.mean((2, 3)).float()).to(embedding.dtype)
        for number in reversed(range(len(skips))):
            x = F.interpolate(self.up[number](x), size=skips[number].shape[2:]) + self.skip[number](skips[number])
            x = self.decoder[number](x, embedding)
        return x, embedding


def _position(image: Tensor, fold: int) -> Tensor:
    """(B, 2, H / fold, W / fold): row and column of each cell, -1..1; shading depends on where the coil is."""
    count, _, height, width = image.shape
    rows = torch.linspace(-1, 1, height // fold, device=image.device, dtype=image.dtype)
    columns = torch.linspace(-1, 1, width // fold, device=image.device, dtype=image.dtype)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return grid.expand(count, -1, -1, -1)


def build_editor(config: DirectConfig) -> DirectEditor:
    """A direct editor with fresh weights, in training mode, on the current default device."""
    return DirectEditor(config)

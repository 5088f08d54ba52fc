"""Embeddings of a condition: one vector as the authors have it, or one token per parameter with its own learned null.

Both mask unknown parameters before anything else reads them, so that stray entries (NaN included) never matter.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reacquire.networks.condition import Condition

FREQUENCIES = 6


def masked_vector(condition: Condition, widths: Sequence[int]) -> Tensor:
    """The (B, D) vector with the entries of unknown parameters set to zero ("0 as unconditional", paper A.1)."""
    repeats = torch.as_tensor(widths, device=condition.known.device)
    known = condition.known.repeat_interleave(repeats, dim=1, output_size=sum(widths))
    return torch.where(known, condition.vector, torch.zeros_like(condition.vector))


def fourier_features(z: Tensor) -> Tensor:
    """(B, 1) z-scores -> (B, 1 + 2 * FREQUENCIES): z itself, and sine and cosine at periods 8, 4, 2 ... 1/4 sd.

    Plain z lets a network extrapolate, the harmonics let it bend: fat and water swap phase within 2 ms of echo time.
    """
    angles = z * (math.pi / 4 * 2.0 ** torch.arange(FREQUENCIES, device=z.device, dtype=z.dtype))
    return torch.cat([z, angles.sin(), angles.cos()], dim=1)


def _embedding(width: int, token_width: int) -> nn.Linear:
    if width == 1:
        return nn.Linear(1 + 2 * FREQUENCIES, token_width)
    table = nn.Linear(width, token_width, bias=False)
    nn.init.normal_(table.weight)  # a one-hot input picks one column: unit scale, as nn.Embedding has it
    return table


class ParameterTokens(nn.Module):
    """(B, D) vector -> (B, P, token_width): a token per parameter, or its learned null where it is unknown.

    A parameter of width 1 is continuous (a z-score), a wider one is categorical (one-hot, or probabilities).
    """

    def __init__(self, widths: Sequence[int], token_width: int) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.embeddings = nn.ModuleList(_embedding(width, token_width) for width in self.widths)
        self.null = nn.Parameter(torch.randn(len(self.widths), token_width))

    def forward(self, condition: Condition) -> Tensor:
        """Tokens in the order of the encoding's parameters."""
        parts = masked_vector(condition, self.widths).split(self.widths, dim=1)
        features = [
            fourier_features(part) if width == 1 else part for part, width in zip(parts, self.widths, strict=True)
        ]
        # harmonics are formed in float32: in bfloat16 the fastest would be off by a tenth of a radian
        tokens = [embed(f.to(self.null.dtype)) for embed, f in zip(self.embeddings, features, strict=True)]
        return torch.where(condition.known[:, :, None], torch.stack(tokens, dim=1), self.null)

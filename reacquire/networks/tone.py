"""How much brighter or darker gland becomes under other parameters, told from a slice's tissue means alone.

A network that answers per pixel learns fat well and gland badly: gland is a sixth of a breast, in small pieces. What
another acquisition does to a *mean* is a question of few numbers, so it is asked apart (docs/decisions/0013).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks.condition import Condition
from reacquire.networks.config import NetworkConfig
from reacquire.networks.direct import DEFAULT_WIDTHS
from reacquire.networks.signal import FIELDS_T, T1_MS, T2S_MS, SignalEquation
from reacquire.networks.tokens import masked_vector

STATISTICS = 9  # mean, spread and share of fat, gland and the rest of the body
LARGEST = 0.5  # change that it may ask for, on the normalised scale
FURTHEST = 6.0  # standard deviations from the mean of training beyond which a statistic counts as this far


@dataclass(frozen=True)
class ToneConfig(NetworkConfig):
    """Shape of a tone network.

    Parameters
    ----------
    parameter_widths : tuple of int
        Entries of each parameter in the encoded vector.
    width : int
        Of its hidden layers.
    t1_ms, t2s_ms : tuple of float
        Relaxation times (ms) of the tissues whose signal it is told, as in ``DirectConfig``.
    """

    parameter_widths: tuple[int, ...]
    width: int = 32
    t1_ms: tuple[float, ...] = T1_MS
    t2s_ms: tuple[float, ...] = T2S_MS

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")
        if not self.t1_ms or len(self.t1_ms) % len(FIELDS_T) or len(self.t1_ms) != len(self.t2s_ms):
            raise ValueError("t1_ms and t2s_ms need one entry per tissue at each field strength")


TONES: dict[str, ToneConfig] = {"default": ToneConfig(DEFAULT_WIDTHS)}


class ToneNetwork(nn.Module):
    """Three layers over the statistics of the source, both parameter sets, and the signal equation under both.

    Exactly zero from parameters to the same parameters: what it says of the target is taken relative to the source.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, config: ToneConfig) -> None:
        super().__init__()
        self.config = config
        self.equation = SignalEquation(Encoding(load_vocabulary()), config.t1_ms, config.t2s_ms)
        self.register_buffer("mean", torch.zeros(STATISTICS))
        self.register_buffer("spread", torch.ones(STATISTICS))
        one = sum(config.parameter_widths) + len(config.parameter_widths)
        layers: list[nn.Module] = []
        width = STATISTICS + 2 * one + self.equation.count
        for _ in range(3):
            layers += [nn.Linear(width, config.width), nn.SiLU(), nn.Dropout(0.1)]
            width = config.width
        self.layers = nn.Sequential(*layers[:-1], nn.Linear(width, 1))

    def forward(self, statistics: Tensor, source: Condition, target: Condition) -> Tensor:
        """(B, STATISTICS) of the source's tissues, both parameter sets -> (B,) change of gland's mean."""
        scaled = ((statistics - self.mean) / self.spread).clamp(-FURTHEST, FURTHEST)
        change = self._told(scaled, source, target) - self._told(scaled, source, source)
        return LARGEST * torch.tanh(change / LARGEST)

    def _told(self, scaled: Tensor, source: Condition, target: Condition) -> Tensor:
        conditions = [
            part
            for condition in (source, target)
            for part in (masked_vector(condition, self.config.parameter_widths), condition.known)
        ]
        features = [scaled, *conditions, self.equation(source, target)]
        return self.layers(torch.cat([f.to(scaled.dtype) for f in features], dim=1))[:, 0]


def build_tone(config: ToneConfig) -> ToneNetwork:
    """A tone network with fresh weights, in training mode."""
    return ToneNetwork(config)

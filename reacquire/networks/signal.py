"""What the signal equation says of a condition: how bright tissues are under its flip angle, times and field strength.

A network could learn this from examples, but not from few. The equation is that of a spoiled gradient echo (Ernst) with
the six lines of fat, as ``reacquire.physics.signal`` has it; of logarithms, because a gain of the receiver then drops
out of differences. Nothing here knows a slice; fat suppression, coils and reconstruction are the network's to learn.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from reacquire.iap import Categorical, Continuous, Encoding
from reacquire.networks.condition import Condition
from reacquire.physics.signal import FAT_AMPLITUDE, FAT_PPM, ppm_to_hz
from reacquire.physics.tissue import BLOOD, FAT, FGT, MUSCLE, SKIN, t1_ms, t2s_ms

FIELDS_T = (1.5, 3.0)
SIGNAL_TISSUES = (FAT, FGT, MUSCLE, BLOOD, SKIN)
# Of each of them, at 1.5 T and then at 3 T. Networks keep their own in their configuration: the table may change.
T1_MS, T2S_MS = (
    tuple(float(table(field)[tissue]) for field in FIELDS_T for tissue in SIGNAL_TISSUES) for table in (t1_ms, t2s_ms)
)
B1 = (0.8, 1.0, 1.2)  # actual over nominal flip angle: about what the phantom's transmit fields span
FIELD, NUMBERS = "MagneticFieldStrength", ("FlipAngle", "EchoTime", "RepetitionTime")
LEAST = 0.1  # of degrees and milliseconds: the equation has no logarithm at 0


class SignalEquation(nn.Module):
    """(source condition, target condition) -> (B, 3 F) float32: features of both, then target minus source; no weights.

    The F features of one are the logarithm of each tissue's signal at each of ``B1``, and the sum of fat's lines at the
    echo (real and imaginary part, magnitude), shifted and scaled so that they spread by about 1 over the vocabulary. An
    unknown number counts as its mean, an unknown field strength as half of either.

    Parameters
    ----------
    encoding : Encoding
        How conditions are laid out.
    t1_ms, t2s_ms : sequence of float
        Relaxation times in ms of any number of tissues, at 1.5 T and then at 3 T.

    Raises
    ------
    ValueError
        When the vocabulary has other field strengths.
    """

    t1_ms: Tensor
    t2s_ms: Tensor
    fat_hz: Tensor
    fat_amplitude: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(self, encoding: Encoding, t1_ms: Sequence[float], t2s_ms: Sequence[float]) -> None:
        super().__init__()
        if field_strengths(encoding) != FIELDS_T:
            raise ValueError(f"the relaxation times are those at {FIELDS_T} T, the vocabulary has others")
        self.encoding = encoding
        self._index = {p.keyword: i for i, p in enumerate(encoding.parameters)}
        for name, times in (("t1_ms", t1_ms), ("t2s_ms", t2s_ms)):
            self.register_buffer(name, torch.tensor(times).reshape(len(FIELDS_T), -1), persistent=False)
        hz = torch.stack([torch.from_numpy(ppm_to_hz(FAT_PPM, field)) for field in FIELDS_T])
        self.register_buffer("fat_hz", hz.float(), persistent=False)
        self.register_buffer("fat_amplitude", torch.from_numpy(FAT_AMPLITUDE).float(), persistent=False)
        grid = torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=len(NUMBERS))))
        features = self._features(*self._physical(grid)).flatten(0, 1)  # every number at its mean and one SD off
        self.register_buffer("mean", features.mean(0), persistent=False)
        self.register_buffer("spread", features.std(0, correction=0), persistent=False)
        self.count = 3 * features.shape[1]

    def forward(self, source: Condition, target: Condition) -> Tensor:
        """Features on the device of the conditions."""
        before, after = ((self._of(condition) - self.mean) / self.spread for condition in (source, target))
        return torch.cat([before, after, after - before], dim=1)

    def _of(self, condition: Condition) -> Tensor:
        """(B, F), the mean over what the field strength may be."""
        entries = torch.cat([self._entries(condition, keyword, 0.0) for keyword in NUMBERS], dim=1)
        chances = self._entries(condition, FIELD, 1 / len(FIELDS_T))
        return torch.einsum("bk,kbf->bf", chances, self._features(*self._physical(entries)))

    def _entries(self, condition: Condition, keyword: str, unknown: float) -> Tensor:
        """(B, W) float32: a parameter's part of the vector; ``unknown`` where it is not known, whatever is there."""
        part = condition.vector[:, self.encoding.slices[keyword]].float()
        return torch.where(condition.known[:, self._index[keyword], None], part, unknown)

    def _physical(self, entries: Tensor) -> list[Tensor]:
        """Flip angle (degrees), echo and repetition time (ms), (B, 1) each, of z-scores (B, 3)."""
        parameters = [self.encoding.vocabulary[keyword] for keyword in NUMBERS]
        return [
            self.encoding.unscale(p, entry).clamp(min=LEAST)
            for entry, p in zip(entries.split(1, dim=1), parameters, strict=True)
            if isinstance(p, Continuous)
        ]

    def _features(self, flip_deg: Tensor, te_ms: Tensor, tr_ms: Tensor) -> Tensor:
        """(2, B, F) unscaled, one set per field strength."""
        t1, t2s = self.t1_ms[:, None], self.t2s_ms[:, None]
        signals = [log_signal(flip_deg * b1, te_ms, tr_ms, t1, t2s) for b1 in B1]
        angle = 2e-3 * torch.pi * te_ms * self.fat_hz[:, None]
        real, imaginary = ((self.fat_amplitude * part).sum(-1, keepdim=True) for part in (angle.cos(), angle.sin()))
        return torch.cat([*signals, real, imaginary, torch.hypot(real, imaginary)], dim=2)


def log_signal(flip_deg: Tensor, te_ms: Tensor, tr_ms: Tensor, t1_ms: Tensor, t2s_ms: Tensor) -> Tensor:
    """Logarithm of ``reacquire.physics.signal.spgr`` at unit proton density; the arguments broadcast."""
    angle, fraction = torch.deg2rad(flip_deg), -torch.expm1(-tr_ms / t1_ms)  # 1 - E1
    left = 1 - torch.cos(angle) * (1 - fraction)
    return torch.log(torch.sin(angle) * fraction / left) - te_ms / t2s_ms


def field_strengths(encoding: Encoding) -> tuple[float, ...]:
    """The field strengths (T) of an encoding's vocabulary, in the order of its vector."""
    parameter = encoding.vocabulary[FIELD]
    return tuple(map(float, parameter.categories)) if isinstance(parameter, Categorical) else ()

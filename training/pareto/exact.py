"""Every way of editing with the exact denoiser of one Gaussian mode: how much of a tissue's change each could bring.

The methods themselves run, on images of one pixel that hold the amplitude of the mode (``training.pareto.modes``).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reacquire.bundles.manifest import InversionSetup, SdeditSetup
from reacquire.diffusion import NoiseSchedule
from reacquire.engine import Settings
from reacquire.engine.guided import Guided
from reacquire.engine.inversion import Inversion
from reacquire.engine.sdedit import Sdedit
from reacquire.jobs.spec import Options
from reacquire.networks import Condition
from training.pareto.modes import Mode


class OneMode(nn.Module):
    """The noise that the optimal denoiser sees in x_t: N(c, within) where told, N(0, within + between) where not.

    The condition's first entry is the mean of its protocol.
    """

    def __init__(self, within: float, between: float) -> None:
        super().__init__()
        self.within, self.between = within, between
        self.schedule = NoiseSchedule.paper_cosine()

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """(B, 1, 1, 1), indices that are all equal, a condition of B rows -> (B, 1, 1, 1)."""
        alpha, sigma = self.schedule.level(int(t[0]))
        told = condition.known.any(1)[:, None, None, None]
        mean = torch.where(told, condition.vector[:, :1, None, None], 0.0)
        variance = torch.where(told, self.within, self.within + self.between)
        return sigma * (x - alpha * mean) / (alpha**2 * variance + sigma**2)  # (x_t - alpha E[x_0 | x_t]) / sigma


@dataclass(frozen=True)
class Exact:
    """``moved``: share of the difference between the two protocols' means that the edit brings; ``kept``: share of what
    sets this woman apart from her protocol's mean."""

    moved: float
    kept: float


def exact_transfer(setup: SdeditSetup | InversionSetup, mode: Mode) -> Exact:
    """What a method does to one mode, from one standard deviation among protocols below the mean to one above it.

    ``ancestral`` is replaced by its equal, DDIM with eta 1 and as many steps: a percentile rescale has no meaning for
    one pixel.
    """
    if isinstance(setup, SdeditSetup) and setup.sampler == "ancestral":
        setup = setup.model_copy(update={"sampler": "ddim", "eta": 1.0})
    root = mode.pixels**0.5
    low, high, apart = -root * mode.between, root * mode.between, root * mode.within
    guided = Guided.of(OneMode(apart**2, high**2), setup)
    method = Inversion(guided, setup) if isinstance(setup, InversionSetup) else Sdedit(guided, setup)
    settings = Settings.of(Options(), setup)

    def edited(amplitude: float, source: float, target: float) -> float:
        image = torch.full((1, 1, 1, 1), amplitude)
        return float(method.edit(image, _told(source), _told(target), [0], settings))

    # everything is linear here: without an image and without a protocol, what is left is the noise's share
    noise = edited(0.0, 0.0, 0.0)
    typical, other = (edited(amplitude, low, high) - noise for amplitude in (low, low + apart))
    return Exact((typical - low) / (high - low), (other - typical) / apart)


def _told(mean: float) -> Condition:
    return Condition(torch.full((1, 1), mean), torch.ones(1, 1, dtype=torch.bool))

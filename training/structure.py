"""What the structure-conditioned denoiser learns: to find a slice's contrast in its parameters, not in the slice.

It is shown the slice with its contrast randomised, beside the noise, and has to answer with the slice as it is. So it
takes edges from the image and contrast from the parameters (SynthSeg's idea, Billot et al. 2023, for slices instead of
labels), and learns from single slices: no pairs, which patients can't give.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.transforms import Compose, RandBiasField, RandGaussianNoise, RandGaussianSmooth, RandHistogramShift
from monai.utils import convert_to_tensor
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from reacquire.diffusion import NoiseSchedule, Sample
from reacquire.networks import drop
from training.batches import Batch
from training.objectives import normal, timesteps


@dataclass(frozen=True)
class StructureDenoising:
    """Squared error of the predicted slice at a uniform timestep.

    Parameters are dropped one by one, so that any subset may be unknown and no combination of them stands for a woman;
    then the whole condition at once, for slices of which nothing is known.
    """

    schedule: NoiseSchedule
    dropout: float

    def __call__(self, network: nn.Module, batch: Batch, draws: Sequence[Generator]) -> Tensor:
        x0 = batch.target
        t, z = timesteps(self.schedule, draws), normal(x0, draws)
        condition = drop(drop(batch.condition, self.dropout, draws), self.dropout, draws, "whole")
        beside = with_random_contrast(x0, draws)
        noisy = self.schedule.q_sample(x0, t.cpu(), z)
        seen = Sample().network_input(noisy, self.schedule.level(0), beside)
        return mse_loss(network(seen, t.to(x0.device), condition), x0)


def random_contrast() -> Compose:
    """A rising tone curve for every slice; shading, blur and noise for some.

    The curve rises, so air, fat and gland keep their order, which is all that tells them apart in a slice.
    """
    return Compose(
        [
            RandHistogramShift(num_control_points=(3, 8), prob=1.0),
            RandBiasField(degree=2, coeff_range=(-0.15, 0.15), prob=0.5),
            RandGaussianSmooth(sigma_x=(0.25, 0.75), sigma_y=(0.25, 0.75), prob=0.25),
            RandGaussianNoise(std=0.03, sample_std=True, prob=0.5),
        ]
    )


def with_random_contrast(images: Tensor, draws: Sequence[Generator]) -> Tensor:
    """(B, 1, S, S) slices with another contrast each, drawn from the item's own generator."""
    chain = random_contrast()
    changed = []
    for image, draw in zip(images, draws, strict=True):
        chain.set_random_state(int(torch.randint(2**31, (1,), generator=draw, device=draw.device)))
        changed.append(convert_to_tensor(chain(image), track_meta=False).to(image))
    return torch.stack(changed)

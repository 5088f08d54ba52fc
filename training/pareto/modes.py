"""What Algorithm 1 can do to a tissue's mean: the exact denoiser of a linear-Gaussian model, no network involved.

The mean grey level of a tissue is one mode of the image: a unit vector over its n pixels, with amplitude sqrt(n) times
the mean. Its variance under one protocol, and that of its mean among protocols, are measured on simulated slices; the
optimal denoiser of a Gaussian is then known: E[x_0 | x_t] = m + alpha S (alpha^2 S + sigma^2)^-1 (x_t - alpha m). This
is neither the authors' network nor the distribution of real slices: it says what an edit can do that starts at so
little noise when nothing is lost to training.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reacquire.diffusion.schedule import CLEAN, NoiseSchedule
from training.cache import Row, SliceCache

SCANNER = ("ManufacturerModelName", "MagneticFieldStrength", "ScanOptions")  # what counts as one protocol here


@dataclass(frozen=True)
class Mode:
    """A tissue's mean: ``pixels`` it covers in the median slice, its standard deviation among women under one protocol
    and that of its mean among protocols, in normalised grey levels."""

    pixels: float
    within: float
    between: float

    def transfer(self, *, scale: float = 3.0, start: int = 49) -> tuple[float, float]:
        """As ``mode_transfer``."""
        return mode_transfer(self.pixels * self.within**2, self.pixels * self.between**2, scale=scale, start=start)


def tissue_mode(cache: SliceCache, rows: Sequence[Row], label: int) -> Mode:
    """Measure the mode of one label; slices that hold less than ten pixels of it are left out."""
    means: dict[tuple, list[float]] = defaultdict(list)
    pixels = []
    for row in rows:
        values = cache.images[row.index][cache.labels[row.index] == label].astype(np.float64)
        if len(values) >= 10:
            means[tuple(row.iap.get(k) for k in SCANNER)].append(values.mean())
            pixels.append(len(values))
    groups = [np.array(values) for values in means.values() if len(values) > 1]
    weights = np.array([len(group) for group in groups], float)
    within = np.average([group.var(ddof=1) for group in groups], weights=weights)
    centres = np.array([group.mean() for group in groups])
    between = np.average((centres - np.average(centres, weights=weights)) ** 2, weights=weights)
    return Mode(float(np.median(pixels)), float(np.sqrt(within)), float(np.sqrt(between)))


def mode_transfer(within: float, between: float, *, scale: float = 3.0, start: int = 49) -> tuple[float, float]:
    """(share of the source kept, shift in units of the target's mean) of one Gaussian mode under Algorithm 1.

    Parameters
    ----------
    within, between : variance of the mode under one protocol, and of its mean among protocols
    scale, start : w, and the first timestep; ancestral steps down to 0 (Ho et al. 2020, eq. 7), mean only, without the
        authors' percentile rescale
    """
    schedule = NoiseSchedule.paper_cosine()
    levels = [*(schedule.level(t) for t in range(start, -1, -1)), CLEAN]
    kept, shift = levels[0].alpha, 0.0  # the answer is linear: kept * source + shift * target's mean
    for here, there in pairwise(levels):
        told, untold = (_gain(v, *here) for v in (within, within + between))
        slope = untold + scale * (told - untold)
        offset = scale * (1 - told * here.alpha)
        shrink = (here.alpha / there.alpha) ** 2
        to_x0 = there.alpha * (1 - shrink) / here.sigma**2
        to_x = shrink**0.5 * (there.sigma / here.sigma) ** 2
        kept, shift = (to_x0 * slope + to_x) * kept, (to_x0 * slope + to_x) * shift + to_x0 * offset
    return kept, shift


def _gain(variance: float, alpha: float, sigma: float) -> float:
    return alpha * variance / (alpha**2 * variance + sigma**2)

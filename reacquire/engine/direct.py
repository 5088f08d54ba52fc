"""The direct method: one evaluation of a network that was shown simulated pairs (`reacquire.networks.direct`).

It answers with the noiseless target, as far as the source's own noise lets it. With ``noise`` the result shows what
the target acquisition would. What the network takes off when asked for the source's own parameters is the source's own
noise: it stays, at the level of the target (abduction, action, prediction; Pearl 2009, chapter 7). What the target has
beyond it is drawn per item from its seed, with the statistics of a magnitude image (Rice; Gudbjartsson and Patz 1995).
An edit to the source's own parameters is then the source itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reacquire.bundles.manifest import DirectSetup
from reacquire.diffusion import ItemNoise, OnStep, Seed
from reacquire.diffusion.loop import iterate
from reacquire.engine.method import Settings
from reacquire.engine.tone import Tone
from reacquire.errors import InputError
from reacquire.jobs.spec import Options
from reacquire.networks import Condition

AIR = 0.02  # quantile of a slice that counts as the grey level of no signal
STRIDE, WINDOW = 4, 7  # of the running median of the noise level: it sees 28 pixels
ROUNDED_OFF = 0.05  # of the wanted level: differences in noise below it add less than their root


@dataclass(frozen=True)
class Direct:
    """``network`` answers (B, 2 or more, S, S): the change, and the standard deviation of the target's noise.

    ``tone`` moves gland after it.
    """

    network: nn.Module
    setup: DirectSetup
    tone: Tone | None = None

    def check(self, options: Options) -> None:
        """Refuse options of the reverse diffusion, which this method does not run.

        Raises
        ------
        InputError
            For a sampler, more than one step, or a guidance scale other than 1.
        """
        refused = {
            "sampler": options.sampler is not None,
            "steps": options.steps not in (None, 1),
            "guidance_scale": options.guidance_scale not in (None, 1.0),
        }
        for name, given in refused.items():
            if given:
                raise InputError(
                    f"{name} belongs to diffusion; this bundle edits in one evaluation: leave it out",
                    where=f"/options/{name}",
                )

    def evaluations(self, settings: Settings) -> int:
        return 2 if settings.noise else 1

    @torch.inference_mode()
    def edit(
        self,
        source: Tensor,
        source_iap: Condition,
        target_iap: Condition,
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        noise = ItemNoise(seeds)

        def advance(_: int, image: Tensor, items: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
            here, there = source_iap.index(items), target_iap.index(items)
            change, level = self._answer(image, here, there)
            edited = image + change
            lacking = torch.zeros_like(level)
            if settings.noise:
                cleaning, present = self._answer(image, here, here)
                edited = edited - kept_share(level, present) * cleaning
                lacking = missing_noise(level, present)
            if self.tone is not None:
                edited = self.tone.correct(image, edited, here, there)
            return with_noise(edited, lacking, noise, items) if settings.noise else edited, memory

        return iterate(advance, source, 1, noise, on_step)

    def _answer(self, image: Tensor, source: Condition, target: Condition) -> tuple[Tensor, Tensor]:
        """Change and noise level, (B, 1, S, S) each."""
        answer = self.network(image.contiguous(memory_format=torch.channels_last), source, target).float()
        return answer[:, :1], smoothed(answer[:, 1:2])


def smoothed(level: Tensor) -> Tensor:
    """The (B, 1, S, S) level's running median: noise varies as slowly as the coil does, and on slices unlike those of
    training the network's answer has specks."""
    few = F.pad(level[..., ::STRIDE, ::STRIDE], [WINDOW // 2] * 4, mode="replicate")
    windows = few.unfold(2, WINDOW, 1).unfold(3, WINDOW, 1).flatten(-2)  # (B, 1, S / STRIDE, S / STRIDE, WINDOW^2)
    return F.interpolate(windows.median(-1).values, level.shape[2:], mode="bilinear", align_corners=False)


def kept_share(wanted: Tensor, present: Tensor) -> Tensor:
    """Share of the source's noise that the target shows too, both given as standard deviations: at most all of it."""
    return (wanted / present.clamp(min=1e-5)).clamp(max=1)


def missing_noise(wanted: Tensor, present: Tensor) -> Tensor:
    """Standard deviation of the noise that turns ``present`` into ``wanted``: sqrt(wanted^2 - present^2), 0 where the
    source has more. Rounded off near 0, where the root would blow rounding errors up."""
    variance = (wanted**2 - present**2).clamp(min=0)
    return variance / (variance + (ROUNDED_OFF * wanted) ** 2 + 1e-12).sqrt()


def with_noise(image: Tensor, level: Tensor, noise: ItemNoise, items: Tensor) -> Tensor:
    """A magnitude image (B, 1, S, S) with noise of standard deviation ``level`` added in both channels.

    Air gets a floor above its own grey level, as magnitude images have it. Where ``level`` is 0 nothing changes.
    """
    air = torch.quantile(image.flatten(1), AIR, dim=1)[:, None, None, None]
    signal, below = (image - air).clamp(min=0), (image - air).clamp(max=0)
    real = signal + level * noise.draw(0, image, items)
    return air + below + torch.hypot(real, level * noise.draw(1, image, items))

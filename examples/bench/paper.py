"""The paper's edit as its authors run it: fp32, both branches, 50 steps, the whole attention matrix in memory."""

from collections.abc import Callable
from dataclasses import replace

import torch

from examples.bench.timing import seconds
from reacquire.diffusion import paper_edit
from reacquire.networks import DENOISERS, Condition, build_denoiser

PAPER_STEPS = 50
SIZE = 224


def paper_editor(device: str, batch: int = 1) -> Callable[[int], None]:
    """Edits ``batch`` slices in the given number of the 50 steps. Weights are random, which changes no time."""
    config = DENOISERS["paper"]
    network = build_denoiser(replace(config, flash_attention=False)).eval().to(device)
    known = torch.ones(2 * batch, len(config.parameter_widths), dtype=torch.bool, device=device)
    condition = Condition(torch.rand(2 * batch, config.condition_width, device=device), known)
    image = torch.rand(batch, 1, SIZE, SIZE, device=device)

    @torch.inference_mode()
    def edit(start_t: int) -> None:
        paper_edit(lambda x, t, _: network(x, t, condition), image, seeds=list(range(batch)), start_t=start_t)

    return edit


def paper_seconds(steps: int, repeats: int, *, device: str = "cpu", batch: int = 1) -> float:
    """One counterfactual of a batch; after a warm-up of one step, ``steps`` of the 50 are timed and scaled up."""
    edit = paper_editor(device, batch)
    timed = seconds(lambda: edit(steps), repeats, device=device, warm_up=lambda: edit(1))
    return timed * PAPER_STEPS / steps / batch

"""The paper's objective: which noise levels it asks for, and that its network in small is of the same kind."""

import torch
from torch import Tensor, nn

from reacquire.diffusion import NoiseSchedule
from reacquire.networks import Condition, Denoiser
from training.batches import Batch
from training.config import PRESETS
from training.objectives import PaperDenoising
from training.runs import build_network, encoding_of

COUNT = 4000


class Listening(nn.Module):
    """Keeps the timesteps that it is asked for."""

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.asked = t
        return torch.zeros_like(x)


def asked(used_levels: float) -> Tensor:
    image, labels = torch.zeros(COUNT, 1, 2, 2), torch.zeros(COUNT, 2, 2)
    condition = Condition(torch.zeros(COUNT, 23), torch.ones(COUNT, 7, dtype=torch.bool))
    batch = Batch(image, condition, image, labels, condition, image)
    network = Listening()
    PaperDenoising(NoiseSchedule.paper_cosine(), 0.15, used_levels)(
        network, batch, [torch.Generator().manual_seed(i) for i in range(COUNT)]
    )
    return network.asked


def test_the_papers_timesteps_are_uniform() -> None:
    t = asked(0.0)
    assert abs((t < 50).float().mean().item() - 0.05) < 0.01
    assert abs(t.float().mean().item() - 499.5) < 15


def test_a_share_of_the_timesteps_is_drawn_where_an_edit_needs_them() -> None:
    t = asked(0.8)
    assert abs((t < 50).float().mean().item() - 0.81) < 0.02
    assert t.max() > 900
    assert asked(1.0).unique().tolist() == list(range(50))


def test_the_small_preset_builds_the_authors_network_with_fewer_channels() -> None:
    config = PRESETS["editor", "paper-two-core"]
    network, shape = build_network(config)
    assert isinstance(network, Denoiser)
    assert encoding_of(config).layout == "paper"
    assert sum(shape["parameter_widths"]) == encoding_of(config).width
    (phase,) = config.phases
    assert phase.size is None  # the cohort is cached at the size that the bundle will pin

"""The schedules: golden numbers of the paper's cosine, and the nodes that solvers walk."""

import math
from itertools import pairwise

import pytest
import torch

from reacquire.diffusion import CLEAN, NoiseSchedule, lambda_uniform, paper_tables

# abar computed once with Python's decimal module at 50 digits from the definition (see the docstring of NoiseSchedule)
GOLDEN = {
    0: 0.9999,
    1: 0.99980001,
    12: 0.9987007797140715,
    13: 0.998596460937785,
    49: 0.9916260498876106,
    50: 0.9913435644160976,
    999: 2.4278335309342057e-10,
}

PAPER = NoiseSchedule.paper_cosine()


@pytest.mark.parametrize(("t", "abar"), GOLDEN.items())
def test_paper_cosine_golden_values(t: int, abar: float) -> None:
    assert PAPER.alphas_cumprod[t].item() == pytest.approx(abar, rel=1e-12)


def test_paper_cosine_starts_with_the_authors_floor() -> None:
    # 13 betas are clipped to 1e-4, so sigma(0) is 0.01 and not MONAI's 0.0064
    assert PAPER.level(0).sigma == pytest.approx(0.01, rel=1e-9)
    betas = 1 - PAPER.alphas_cumprod[1:14] / PAPER.alphas_cumprod[:13]
    assert torch.allclose(betas[:12], torch.full((12,), 1e-4, dtype=torch.float64), rtol=1e-9)
    assert betas[12] > 1.001e-4
    assert PAPER.level(50).sigma == pytest.approx(0.0930, abs=5e-5)


def test_authors_float32_tables_agree_with_ours() -> None:
    assert torch.allclose(paper_tables().abar.double(), PAPER.alphas_cumprod, rtol=1e-5, atol=1e-6)


def test_linear_schedule_is_that_of_ddpm() -> None:
    linear = NoiseSchedule.linear()
    assert linear.alphas_cumprod[0].item() == pytest.approx(1 - 1e-4, rel=1e-12)
    assert linear.alphas_cumprod[-1].item() == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("schedule", [PAPER, NoiseSchedule.linear()])
def test_levels_preserve_variance_and_fall(schedule: NoiseSchedule) -> None:
    levels = [schedule.level(t) for t in range(1000)]
    assert all(level.alpha**2 + level.sigma**2 == pytest.approx(1, rel=1e-12) for level in levels)
    assert all(sooner.log_snr > later.log_snr for sooner, later in pairwise(levels))
    assert CLEAN.log_snr == math.inf


def test_float_and_tensor_levels_agree_and_the_schedule_keeps_its_precision() -> None:
    x = torch.zeros(2, 1, 4, 4, dtype=torch.float16)
    level = PAPER.levels(torch.tensor([3, 700]), x)
    assert level.alpha.shape == (2, 1, 1, 1) and level.alpha.dtype == torch.float16
    assert level.sigma[1].item() == pytest.approx(PAPER.level(700).sigma, rel=1e-3)
    assert PAPER.alphas_cumprod.dtype == torch.float64  # MONAI's add_noise leaves its schedule in half precision


def test_forward_process_has_the_stated_mean_and_spread() -> None:
    x0 = torch.full((1, 1, 200, 200), 0.7)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    single = PAPER.q_sample(x0, 300, noise)
    assert single.mean().item() == pytest.approx(0.7 * PAPER.level(300).alpha, abs=0.01)
    assert single.std().item() == pytest.approx(PAPER.level(300).sigma, rel=0.02)
    assert torch.allclose(PAPER.q_sample(x0, torch.tensor([300]), noise), single, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "nodes"),
    [(0, []), (1, [49]), (5, [49, 23, 8, 2, 0]), (7, [49, 31, 17, 8, 3, 1, 0]), (50, list(range(49, -1, -1)))],
)
def test_lambda_uniform_nodes_of_the_papers_range(steps: int, nodes: list[int]) -> None:
    assert lambda_uniform(PAPER, 49, steps) == nodes


@pytest.mark.parametrize("start", [0, 1, 12, 49, 400, 999])
def test_lambda_uniform_nodes_descend_strictly_from_start_to_zero(start: int) -> None:
    for steps in {min(n, start + 1) for n in (2, 3, 8, 20, start + 1)}:
        nodes = lambda_uniform(PAPER, start, steps)
        assert len(nodes) == steps and nodes[0] == start
        assert steps == 1 or nodes[-1] == 0
        assert all(a > b for a, b in pairwise(nodes))


def test_schedule_refuses_what_does_not_exist() -> None:
    with pytest.raises(ValueError, match="t must lie"):
        PAPER.level(1000)
    with pytest.raises(ValueError, match="steps must lie"):
        lambda_uniform(PAPER, 3, 5)
    with pytest.raises(ValueError, match="name must"):
        NoiseSchedule("cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two timesteps"):
        NoiseSchedule("linear", 1)

"""The loss of the direct editor: what it rewards, and that its noise level finds the true one."""

import pytest
import torch
from torch import Tensor, nn

from reacquire.networks import Condition
from training.batches import Batch
from training.cache import UNKNOWN
from training.objectives import (
    MEAN_WEIGHT,
    TISSUE_WEIGHT,
    DirectEditing,
    label_loss,
    noise_likelihood,
    tissue_errors,
)
from training.validation import draws


class Answering(nn.Module):
    """Answers the same change for every item and remembers which parameters it was told."""

    def __init__(self, change: Tensor) -> None:
        super().__init__()
        self.change = change

    def forward(self, image: Tensor, source: Condition, target: Condition) -> Tensor:
        self.source, self.target = source, target
        return torch.cat([self.change, torch.full_like(image, 0.02)], dim=1)


def batch(count: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(count, 1, 8, 8, generator=generator)
    truth = source * 1.5
    labels = torch.zeros(count, 8, 8, dtype=torch.long)
    labels[:, 2:6, 2:6] = 1
    condition = Condition(torch.randn(count, 25, generator=generator), torch.ones(count, 8, dtype=torch.bool))
    return Batch(truth, condition, source, labels, condition, truth)


def loss(change: Tensor, of: Batch, dropout: float = 0.0) -> tuple[float, Answering]:
    network = Answering(change)
    return DirectEditing(dropout)(network, of, draws(1, (0,), range(len(of.target)))).item(), network


def test_the_true_change_is_the_best_answer() -> None:
    of = batch()
    best, _ = loss(of.truth - of.source, of)
    for share in (0.0, 0.9, 1.1):
        assert loss(share * (of.truth - of.source), of)[0] > best


def test_an_error_inside_the_breast_costs_more() -> None:
    of = batch()
    right = of.truth - of.source
    inside, outside = torch.zeros_like(right), torch.zeros_like(right)
    inside[..., 3, 3], outside[..., 0, 0] = 0.1, 0.1
    assert loss(right + inside, of)[0] > loss(right + outside, of)[0]


def test_parameters_of_both_sides_are_dropped_on_their_own() -> None:
    _, network = loss(torch.zeros(64, 1, 8, 8), batch(), dropout=0.3)
    for condition in (network.source, network.target):
        assert 0.15 < 1 - condition.known.float().mean() < 0.5
    assert not torch.equal(network.source.known, network.target.known)
    assert (~network.source.known).all(1).any()  # now and then the source is unknown altogether


@pytest.mark.parametrize("signal", [1.0, 0.0], ids=["tissue", "air"])
def test_the_noise_level_is_found_in_tissue_and_in_air(signal: float) -> None:
    sd, generator = 0.03, torch.Generator().manual_seed(2)
    truth = torch.full((1, 1, 200, 200), signal)
    truth[..., 0, 0] = 0.0
    real, imaginary = (torch.randn(truth.shape, generator=generator) * sd for _ in range(2))
    noisy = torch.hypot(truth + real, imaginary)
    levels = torch.linspace(0.01, 0.06, 51)
    costs = [noise_likelihood(noisy, truth, torch.full_like(truth, level)).item() for level in levels.tolist()]
    assert levels[torch.tensor(costs).argmin()].item() == pytest.approx(sd, rel=0.07)


def test_a_tissue_counts_the_same_however_small_it_is() -> None:
    labels = torch.ones(1, 8, 8, dtype=torch.long)
    labels[:, :2, :5] = 2  # ten pixels of gland
    one, both = TISSUE_WEIGHT + MEAN_WEIGHT, torch.full((1, 1, 8, 8), 0.1)
    gland = both * (labels == 2)
    assert tissue_errors(both, labels).item() == pytest.approx(0.2 * one)
    assert tissue_errors(gland, labels).item() == pytest.approx(0.1 * one)
    balanced = gland * torch.tensor([1.0, -1.0]).repeat(4)  # an error that the tissue's mean does not show
    balanced[..., 4] = 0
    assert tissue_errors(balanced, labels).item() == pytest.approx(0.08 * TISSUE_WEIGHT)
    labels[:, 0, :3] = 1
    assert tissue_errors(both * (labels == 2), labels).item() == 0  # seven pixels are no tissue


def test_telling_tissues_apart_is_learned_where_they_are_known() -> None:
    labels = torch.tensor([[[0, 1, 2, UNKNOWN]]])
    right = 9 * torch.nn.functional.one_hot(labels.clamp(max=2), 3).movedim(-1, 1).float()
    wrong = right.roll(1, dims=1)
    assert label_loss(right, labels) < 0.01 < label_loss(wrong, labels)
    right[..., -1] = 100 * torch.randn(1, 3, 1)
    assert label_loss(right, labels) < 0.01  # what nobody knows is not asked
    assert label_loss(right, torch.full_like(labels, UNKNOWN)).item() == 0


def test_an_empty_breast_gives_a_finite_loss() -> None:
    of = batch()
    value, _ = loss(torch.zeros(64, 1, 8, 8), of._replace(labels=torch.zeros_like(of.labels)))
    assert value == pytest.approx(value) and value < 100

"""Gland goes to the mean that the tone network tells, everything else stays; nothing happens where nothing is asked."""

import pytest
import torch
from torch import Tensor, nn

from reacquire.engine.tone import LEAST_PIXELS, Tone, tissue_statistics, weighted_mean
from reacquire.networks import TONES, Condition, build_tone

SURE = 20.0  # logit of a tissue that is certain


class Stripes(nn.Module):
    """Fat on the left third, gland on the right third, whatever the image shows."""

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), 3, *images.shape[2:])
        third = images.shape[-1] // 3
        logits[:, 0, :, third:-third] = logits[:, 1, :, :third] = logits[:, 2, :, -third:] = SURE
        return logits


class Brighter(nn.Module):
    """Gland changes by what the first entry of the target's vector is above the source's."""

    def forward(self, statistics: Tensor, source: Condition, target: Condition) -> Tensor:
        assert statistics.shape == (len(source.vector), 9)
        return target.vector[:, 0] - source.vector[:, 0]


def condition(*firsts: float) -> Condition:
    vector = torch.zeros(len(firsts), 25)
    vector[:, 0] = torch.tensor(firsts)
    return Condition(vector, torch.ones(len(firsts), 8, dtype=torch.bool))


TONE = Tone(Brighter(), Stripes())


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 30, 30, generator=torch.Generator().manual_seed(0))


def test_gland_ends_at_the_mean_that_was_told_whatever_the_editor_made_of_it(images: Tensor) -> None:
    result = TONE.correct(images, 0.5 * images + 0.1, condition(0, 0, 0), condition(0.2, 0, -0.1))
    change = (result - images)[..., -10:].mean((1, 2, 3))
    torch.testing.assert_close(change, torch.tensor([0.2, 0.0, -0.1]), atol=1e-5, rtol=0)


def test_other_tissues_stay_as_they_were_edited(images: Tensor) -> None:
    edited = 0.5 * images
    result = TONE.correct(images, edited, condition(0, 0, 0), condition(0.2, 0.1, 0.3))
    torch.testing.assert_close(result[..., :-10], edited[..., :-10], atol=1e-6, rtol=0)
    torch.testing.assert_close(result[..., -10:].std(), edited[..., -10:].std(), atol=0.05, rtol=0)


def test_an_image_that_was_not_edited_stays_under_its_own_parameters(images: Tensor) -> None:
    here = condition(0.3, 0.1, 0)
    assert torch.equal(TONE.correct(images, images, here, here), images)


def test_items_do_not_depend_on_their_batch_mates(images: Tensor) -> None:
    here, there = condition(0, 0, 0), condition(0.2, 0.1, 0.3)
    together = TONE.correct(images, images, here, there)
    alone = TONE.correct(images[1:2], images[1:2], condition(0), condition(0.1))
    torch.testing.assert_close(together[1:2], alone)


def test_a_little_gland_is_moved_a_little_and_none_not_at_all() -> None:
    class Few(nn.Module):
        def __init__(self, pixels: int) -> None:
            super().__init__()
            self.pixels = pixels

        def forward(self, images: Tensor) -> Tensor:
            logits = torch.zeros(len(images), 3, *images.shape[2:])
            logits[:, 0] = SURE
            logits[:, 0].flatten(1)[:, : self.pixels] = -SURE
            logits[:, 2].flatten(1)[:, : self.pixels] = SURE
            return logits

    images = torch.full((1, 1, 30, 30), 0.5)
    for pixels, share in ((0, 0.0), (15, 0.5), (60, 1.0)):
        result = Tone(Brighter(), Few(pixels)).correct(images, images, condition(0), condition(0.2))
        moved = (result - images).sum() / max(pixels, 1)
        assert moved.item() == pytest.approx(0.2 * share, abs=1e-4)
    assert LEAST_PIXELS == 30


def test_the_statistics_are_those_of_the_tissues() -> None:
    image = torch.zeros(1, 1, 30, 30)
    image[..., :10], image[..., 10:20], image[..., -10:] = 0.2, 0.05, 0.8  # the middle is darker than a body
    image[:, :, :15, -10:] = 0.6
    found = tissue_statistics(image, TONE.probabilities(image))[0]
    expected = [0.2, 0.7, 0.0, 0.0, 0.1, 0.0, 1 / 3, 1 / 3, 0.0]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-3, rtol=0)


def test_a_mean_without_weight_is_nought() -> None:
    assert weighted_mean(torch.ones(1, 1, 4, 4), torch.zeros(1, 2, 4, 4)).tolist() == [[0.0, 0.0]]


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_tone(TONES["default"]).eval()


def random_condition(seed: int, *, known: bool = True) -> Condition:
    vector = torch.randn(5, 25, generator=torch.Generator().manual_seed(seed))
    return Condition(vector, torch.full((5, 8), known))


def test_the_network_asks_for_nothing_under_the_same_parameters(network: nn.Module) -> None:
    statistics, here = torch.rand(5, 9), random_condition(0)
    assert network(statistics, here, here).abs().max() == 0
    assert network(statistics, here, random_condition(1)).abs().min() > 0


def test_the_network_never_asks_for_more_than_half_the_scale(network: nn.Module) -> None:
    answer = network(1e4 * torch.rand(5, 9), random_condition(0), random_condition(1))
    assert answer.abs().max() <= 0.5


def test_entries_of_unknown_parameters_do_not_matter(network: nn.Module) -> None:
    statistics, there = torch.rand(5, 9), random_condition(2)
    unknown = random_condition(3, known=False)
    stray = Condition(torch.full_like(unknown.vector, torch.nan), unknown.known)
    torch.testing.assert_close(network(statistics, unknown, there), network(statistics, stray, there))

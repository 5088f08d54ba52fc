"""Noise by item: reproducible, independent, and blind to the batch."""

import torch

from reacquire.diffusion import ItemNoise, derive_seed

# blake2b is a published function: these numbers never change, or old jobs would not repeat
GOLDEN = [4761921975702974394, 8724540124617128742, 2184725877474955812]

LIKE = torch.zeros(3, 1, 64, 64)


def test_an_items_noise_does_not_depend_on_its_batch() -> None:
    three, one = ItemNoise([11, 22, 33]), ItemNoise([22])
    for number in (0, 1, 7):
        assert torch.equal(three.draw(number, LIKE)[1], one.draw(number, LIKE[:1])[0])
        assert torch.equal(three.draw(number, LIKE, [1, 2]), three.draw(number, LIKE)[1:])
        assert torch.equal(three.draw(number, LIKE, torch.tensor([2])), three.draw(number, LIKE)[2:])


def test_draws_are_standard_normal_and_uncorrelated() -> None:
    noise = ItemNoise(range(3))
    drawn = torch.cat([noise.draw(number, LIKE) for number in range(4)]).flatten(1)
    assert abs(drawn.mean().item()) < 0.02
    assert abs(drawn.std().item() - 1) < 0.02
    assert (torch.corrcoef(drawn) - torch.eye(12)).abs().max() < 0.08


def test_noise_is_a_value() -> None:
    assert ItemNoise([1, 2]) == ItemNoise((1, 2))
    assert torch.equal(ItemNoise([5]).draw(3, LIKE), ItemNoise([5]).draw(3, LIKE))
    assert ItemNoise([5]).draw(0, LIKE.double()).dtype == torch.float64


def test_derived_seeds_are_stable_across_versions() -> None:
    assert [derive_seed(0), derive_seed(0, 1), derive_seed(2**63 - 1, 49)] == GOLDEN

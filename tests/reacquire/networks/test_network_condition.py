"""Conditions: batching and the dropout that teaches a denoiser to do without."""

import pytest
import torch

from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks import Condition, drop
from reacquire.networks.denoiser import PAPER_WIDTHS
from reacquire.networks.direct import DEFAULT_WIDTHS


@pytest.fixture
def condition() -> Condition:
    generator = torch.Generator().manual_seed(0)
    return Condition(torch.randn(4000, 25, generator=generator), torch.ones(4000, 8, dtype=torch.bool))


@pytest.mark.parametrize(("layout", "widths"), [("default", DEFAULT_WIDTHS), ("paper", PAPER_WIDTHS)])
def test_preset_widths_are_those_of_the_vocabulary(layout: str, widths: tuple[int, ...]) -> None:
    encoding = Encoding(load_vocabulary("duke-v1"), layout)
    assert tuple(p.width for p in encoding.parameters) == widths


def test_stack_index_concat_and_null() -> None:
    encoding = Encoding(load_vocabulary())
    encoded = [encoding.encode({"FlipAngle": 10.0}), encoding.null(), encoding.encode({"MagneticFieldStrength": 3.0})]
    batch = Condition.stack(encoded)
    assert batch.vector.shape == (3, 25) and batch.known.shape == (3, 8)
    assert batch.known.sum(dim=1).tolist() == [1, 0, 1]
    picked = batch.index(torch.tensor([2, 0]))
    assert torch.equal(picked.vector, batch.vector[[2, 0]])
    doubled = Condition.concat([batch.null_like(), batch])
    assert not doubled.known[:3].any() and torch.equal(doubled.known[3:], batch.known)


def test_independent_drop_forgets_each_parameter_at_its_rate(condition: Condition) -> None:
    dropped = drop(condition, 0.3, torch.Generator().manual_seed(1))
    rates = 1 - dropped.known.float().mean(dim=0)
    assert torch.allclose(rates, torch.full((8,), 0.3), atol=0.03)
    together = (dropped.known[:, 0] & dropped.known[:, 1]).float().mean().item()
    assert together == pytest.approx(0.49, abs=0.03)  # 0.7 squared, so one does not follow the other


def test_whole_drop_forgets_all_or_nothing(condition: Condition) -> None:
    dropped = drop(condition, 0.15, torch.Generator().manual_seed(1), mode="whole")
    kept = dropped.known.all(dim=1)
    assert torch.equal(kept, dropped.known.any(dim=1))
    assert 1 - kept.float().mean().item() == pytest.approx(0.15, abs=0.02)
    assert torch.equal(dropped.vector[kept], condition.vector[kept])
    assert not dropped.vector[~kept].any()


def test_drop_never_invents_and_repeats_by_seed(condition: Condition) -> None:
    half = condition._replace(known=condition.known.clone())
    half.known[:, ::2] = False
    first, second = (drop(half, 0.5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert not (first.known & ~half.known).any()
    assert torch.equal(first.known, second.known)
    assert drop(half, 0.0).known.equal(half.known)
    assert not drop(half, 1.0).known.any()


@pytest.mark.parametrize(("p", "mode"), [(-0.1, "whole"), (1.1, "whole"), (0.5, "some")])
def test_drop_refuses_nonsense(condition: Condition, p: float, mode: str) -> None:
    with pytest.raises(ValueError, match="must"):
        drop(condition, p, mode=mode)  # type: ignore[arg-type]

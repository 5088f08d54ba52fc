"""The denoisers: their size, what they make of a condition, and their untrained answer."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reacquire.networks import (
    DENOISERS,
    Condition,
    Denoiser,
    DenoiserConfig,
    build_denoiser,
    fold_cross_attention,
    parameter_count,
)

SMALL = replace(DENOISERS["paper"], channels=(32, 32, 64), attention_levels=(False, True, False))


def condition_of(config: DenoiserConfig, rows: int) -> Condition:
    generator = torch.Generator().manual_seed(3)
    vector = torch.randn(rows, config.condition_width, generator=generator)
    return Condition(vector, torch.ones(rows, len(config.parameter_widths), dtype=torch.bool))


def awake(config: DenoiserConfig) -> Denoiser:
    """A small network with every zero-initialised layer drawn at random, so that its whole inside shows."""
    torch.manual_seed(0)
    network = build_denoiser(config).eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return network


def evaluate(network: Denoiser, condition: Condition) -> torch.Tensor:
    rows = len(condition.vector)
    x = torch.randn(1, network.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return network(x.expand(rows, -1, -1, -1), torch.full((rows,), 20), condition)


def flops(config: DenoiserConfig) -> int:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = build_denoiser(config)
        known = torch.ones(1, len(config.parameter_widths), dtype=torch.bool)
        condition = Condition(torch.zeros(1, config.condition_width), known)
        network(torch.zeros(1, config.in_channels, 224, 224), torch.zeros(1, dtype=torch.long), condition)
    return counter.get_total_flops()


def test_paper_denoiser_has_the_authors_parameter_count() -> None:
    # Their vector has 24 entries (a codebook computed from an unreleased csv), duke-v1's has 23: 4608 parameters fewer.
    with torch.device("meta"):
        theirs = build_denoiser(replace(DENOISERS["paper"], parameter_widths=(8, 2, 10, 1, 1, 1, 1)))
        ours = build_denoiser(DENOISERS["paper"])
    assert parameter_count(theirs) == 36_521_857
    assert parameter_count(ours) == 36_517_249


def test_flops_per_forward_at_224() -> None:
    assert flops(DENOISERS["paper"]) == pytest.approx(133.3e9, rel=0.01)


def test_untrained_denoiser_answers_zero() -> None:
    assert not evaluate(build_denoiser(SMALL).eval(), condition_of(SMALL, 2)).any()


def test_entries_of_an_unknown_parameter_never_matter() -> None:
    network, start = awake(SMALL), 0
    for parameter, width in enumerate(SMALL.parameter_widths):
        condition = condition_of(SMALL, 1)
        condition.known[:, parameter] = False
        expected = evaluate(network, condition)
        condition.vector[:, start : start + width] = torch.nan
        assert torch.equal(evaluate(network, condition), expected)
        start += width


def test_every_parameter_matters_when_known() -> None:
    network, start = awake(SMALL), 0
    for width in SMALL.parameter_widths:
        condition = condition_of(SMALL, 2)
        condition.vector[1] = condition.vector[0]
        condition.vector[1, start : start + width] += 0.5
        first, second = evaluate(network, condition)
        assert (first - second).abs().max() > 1e-4
        start += width


def test_the_null_adds_nothing() -> None:
    zero = condition_of(SMALL, 1).null_like().vector
    assert not awake(SMALL).unet.class_embedding(zero).any()


def test_channels_last_and_plain_attention_give_the_same() -> None:
    network, condition = awake(SMALL), condition_of(SMALL, 2)
    expected = evaluate(network, condition)
    plain = build_denoiser(replace(SMALL, flash_attention=False)).eval()
    plain.load_state_dict(network.state_dict())
    assert torch.allclose(evaluate(plain, condition), expected, atol=1e-5)
    last = evaluate(network.to(memory_format=torch.channels_last), condition)
    assert torch.allclose(last, expected, atol=1e-4)


def test_half_precision_stays_close() -> None:
    network, condition = awake(SMALL), condition_of(SMALL, 1)
    expected = evaluate(network, condition)
    x = torch.randn(1, SMALL.in_channels, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        half = network.to(torch.bfloat16)(x.bfloat16(), torch.tensor([20]), condition)
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).square().mean() < 0.01 * expected.square().mean()


def test_an_item_does_not_depend_on_its_batch_mates() -> None:
    network, condition = awake(SMALL), condition_of(SMALL, 3)
    together = evaluate(network, condition)
    alone = evaluate(network, condition.index(torch.tensor([1])))
    assert torch.allclose(together[1], alone[0], atol=1e-5)


def test_folded_cross_attention_equals_the_unfolded_one() -> None:
    network, condition = awake(SMALL), condition_of(SMALL, 2)
    folded = fold_cross_attention(network)
    assert torch.allclose(evaluate(folded, condition), evaluate(network, condition), atol=1e-5)
    assert parameter_count(folded) < parameter_count(network)


@pytest.mark.parametrize("name", DENOISERS)
def test_configuration_survives_json(name: str) -> None:
    config = DENOISERS[name]
    assert DenoiserConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_configuration_refuses_what_it_does_not_know() -> None:
    data = DENOISERS["paper"].to_dict()
    with pytest.raises(ValueError, match="has no dropout"):
        DenoiserConfig.from_dict({**data, "dropout": 0.1})
    with pytest.raises(ValueError, match="needs channels"):
        DenoiserConfig.from_dict({k: v for k, v in data.items() if k != "channels"})

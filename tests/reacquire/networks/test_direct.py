"""The direct editor's network: it starts as the identity, items stay apart, unknown parameters are truly unknown."""

from dataclasses import replace

import pytest
import torch

from reacquire.networks import EDITORS, Condition, DirectConfig, DirectEditor, build_editor, parameter_count
from reacquire.networks.direct import Block

SMALL = replace(EDITORS["default"], channels=(8, 16), blocks=(1, 1), token_width=4, embedding_width=16, norm_groups=4)
OF_BEFORE = {"tissues": 0, "t1_ms": (), "t2s_ms": ()}  # bundle phantom-v1 1.0.0
WIDTH, COUNT = sum(SMALL.parameter_widths), len(SMALL.parameter_widths)


def network(*, trained: bool) -> DirectEditor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_editor(SMALL)
        if trained:
            for weight in net.parameters():
                torch.nn.init.normal_(weight, std=0.1) if weight.ndim > 1 else None
    return net.eval()


def draw(count: int, seed: int = 0) -> tuple[torch.Tensor, Condition, Condition]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(count, 1, 16, 16, generator=generator)
    conditions = [
        Condition(torch.randn(count, WIDTH, generator=generator), torch.ones(count, COUNT, dtype=torch.bool))
        for _ in range(2)
    ]
    return image, conditions[0], conditions[1]


@torch.no_grad()
def test_an_untrained_network_changes_nothing() -> None:
    answer = network(trained=False)(*draw(3))
    assert answer.shape == (3, 2 + SMALL.tissues, 16, 16)
    assert torch.equal(answer[:, 0], torch.zeros(3, 16, 16))
    assert (answer[:, 1] > 0).all()


@torch.no_grad()
def test_an_item_does_not_depend_on_its_batch_mates() -> None:
    net, (image, source, target) = network(trained=True), draw(4)
    together = net(image, source, target)
    for i in range(4):
        row = torch.tensor([i])
        torch.testing.assert_close(net(image[row], source.index(row), target.index(row))[0], together[i])


@torch.no_grad()
@pytest.mark.parametrize("side", [1, 2], ids=["source", "target"])
def test_both_parameter_sets_decide_the_answer(side: int) -> None:
    net, inputs = network(trained=True), list(draw(1))
    plain = net(*inputs)
    vector = inputs[side].vector.clone()
    vector[:, -1] += 1
    inputs[side] = inputs[side]._replace(vector=vector)
    assert not torch.allclose(net(*inputs)[:, 0], plain[:, 0])


@torch.no_grad()
@pytest.mark.parametrize("side", [1, 2], ids=["source", "target"])
def test_the_entries_of_an_unknown_parameter_carry_no_meaning(side: int) -> None:
    net, inputs = network(trained=True), list(draw(2))
    known = torch.ones(2, COUNT, dtype=torch.bool)
    known[:, -1] = False
    answers = []
    for stray in (0.0, torch.nan):
        vector = inputs[side].vector.clone()
        vector[:, -1] = stray
        inputs[side] = Condition(vector, known)
        answers.append(net(*inputs))
    assert torch.equal(*answers)


@torch.no_grad()
def test_a_batch_may_hold_different_targets() -> None:
    net, (image, source, target) = network(trained=True), draw(2)
    same_image = image[:1].expand(2, -1, -1, -1)
    first, second = net(same_image, source.index(torch.tensor([0, 0])), target)
    assert not torch.allclose(first, second)


@torch.no_grad()
def test_a_black_slice_gives_finite_numbers() -> None:
    _, source, target = draw(1)
    assert network(trained=True)(torch.zeros(1, 1, 16, 16), source, target).isfinite().all()


def test_the_noise_level_does_not_bend_the_features() -> None:
    net, inputs = network(trained=True), draw(2)
    net(*inputs)[:, 1].sum().backward()
    assert net.noise_head.weight.grad.abs().sum() > 0
    assert all(p.grad is None or not p.grad.any() for n, p in net.named_parameters() if not n.startswith("noise_"))


@torch.no_grad()
def test_a_tissue_changes_as_the_parameters_say_where_it_is_likely() -> None:
    net, (image, source, target) = network(trained=False), draw(1)
    net.tissue_head.weight.zero_()
    net.tissue_head.bias.zero_()
    net.tissue_head.bias[: SMALL.fold**2] = 40  # all of it is the first tissue
    net.tissue_change[-1].bias.copy_(torch.tensor([0.5, 7.0, 7.0, 0.25, 7.0, 7.0]))  # gains, then offsets
    answer = net(image, source, target)
    torch.testing.assert_close(answer[:, :1], 0.5 * image + 0.25)
    assert answer[:, 2:].argmax(1).eq(0).all()


@torch.no_grad()
def test_networks_of_before_have_no_tissues() -> None:
    assert build_editor(replace(SMALL, **OF_BEFORE))(*draw(1)).shape == (1, 2, 16, 16)


@torch.no_grad()
def test_weights_of_before_go_on_as_they_were_in_a_network_of_today() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before, today = build_editor(replace(SMALL, **OF_BEFORE)), build_editor(SMALL)
    for weight in before.parameters():
        torch.nn.init.normal_(weight, std=0.1) if weight.ndim > 1 else None
    today.load_state_dict(before.state_dict(), strict=False)
    torch.testing.assert_close(today(*draw(2))[:, :2], before(*draw(2)))


def test_a_fresh_block_is_the_identity() -> None:
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(Block(8, SMALL)(x, torch.randn(2, 16)), x)


def test_the_shipped_shape_has_its_golden_size() -> None:
    assert parameter_count(build_editor(EDITORS["default"])) == 4_072_670
    of_before = replace(EDITORS["default"], **OF_BEFORE)
    assert parameter_count(build_editor(of_before)) == 3_983_372


def test_levels_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry per level"):
        DirectConfig((1,), channels=(8, 8), blocks=(1,))

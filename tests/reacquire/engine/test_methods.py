"""Every method behind the one protocol, with small networks of random weights: what must hold whichever is chosen."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from reacquire.bundles.manifest import DirectSetup, EditorSetup, InversionSetup, SdeditSetup, StructureSetup
from reacquire.engine import Editor, Settings
from reacquire.engine.tone import Tone
from reacquire.errors import InputError, PixelError
from reacquire.iap import Encoding, Record, load_vocabulary
from reacquire.jobs.spec import Options
from reacquire.networks import Condition

DIFFUSION = {"schedule": "paper_cosine", "timesteps": 1000, "guidance_scale": 3.0, "start": 49}
SETUPS: dict[str, EditorSetup] = {
    "paper": SdeditSetup(method="sdedit", sampler="ancestral", steps=4, **DIFFUSION),
    "few steps": SdeditSetup(method="sdedit", sampler="ddim", steps=3, **DIFFUSION),
    "2M": SdeditSetup(method="sdedit", sampler="dpmpp-2m", steps=3, **DIFFUSION),
    "inversion": InversionSetup(method="inversion", steps=3, **DIFFUSION),
    "structure": StructureSetup(method="structure", sampler="ddim", steps=3, **{**DIFFUSION, "start": 999}),
    "structure by 2M": StructureSetup(method="structure", sampler="dpmpp-2m", steps=2, **{**DIFFUSION, "start": 999}),
    "direct": DirectSetup(method="direct", noise=True),
    "direct with tone": DirectSetup(method="direct", noise=True),
}
SIEMENS: Record = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Avanto", "EchoTime": 1.4}
GE: Record = {"Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "SIGNA HDx", "EchoTime": 2.4}


class Tilted(nn.Module):
    """Answers by the pixel's neighbour in every channel, the condition and the time, as a denoiser would."""

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        weights = torch.arange(condition.vector.shape[1]) / 10
        told = (condition.vector * weights * condition.known.any(1, keepdim=True)).sum(1)[:, None, None, None]
        ramp = torch.linspace(0, 1, x.shape[2])[:, None]  # the paper's rescale would undo an even change
        shares = torch.arange(1, 1 + x.shape[1])[:, None, None] / sum(range(1, 1 + x.shape[1]))
        seen = (x.roll(1, 2).tanh() * shares).sum(1, keepdim=True)
        return (0.5 + 0.1 * told) * seen + 0.1 * told * ramp + t[:, None, None, None] / 1000


class Doubling(nn.Module):
    """Answers a change and a noise level that depend on both conditions, as a direct editor would."""

    def forward(self, image: Tensor, source: Condition, target: Condition) -> Tensor:
        weights = torch.arange(target.vector.shape[1]) / 10
        by = ((target.vector - source.vector) * weights).sum(1)[:, None, None, None]
        level = 0.01 + 0.001 * target.vector.sum(1).abs()[:, None, None, None].expand_as(image)
        return torch.cat([by * image, level], dim=1)


class Halves(nn.Module):
    """Gland on the right, fat on the left, as sure as pixels are bright."""

    def forward(self, images: Tensor) -> Tensor:
        right = torch.linspace(-8, 8, images.shape[-1]).expand_as(images)
        return torch.cat([torch.zeros_like(images), -right * images, right * images], dim=1)


class Brighter(nn.Module):
    """Moves gland by what the conditions differ, and by a little of what the source is like."""

    def forward(self, statistics: Tensor, source: Condition, target: Condition) -> Tensor:
        return 0.1 * (target.vector - source.vector).sum(1) * (1 + statistics[:, 0])


def editor(name: str) -> Editor:
    setup = SETUPS[name]
    direct = isinstance(setup, DirectSetup)
    encoding = Encoding(load_vocabulary(), "default" if direct else "paper")
    tone = Tone(Brighter(), Halves()) if "tone" in name else None
    return Editor(Doubling() if direct else Tilted(), encoding, setup, tone)


def edited(
    name: str, images: Tensor, targets: list[Record], seeds: list[int], options: Options | None = None
) -> Tensor:
    settings = Settings.of(options or Options(), SETUPS[name])
    return editor(name).edit(images, targets, seeds, settings, sources=[SIEMENS] * len(images))


def slices(count: int, shape: tuple[int, int] = (16, 16)) -> Tensor:
    return torch.rand(count, 1, *shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", SETUPS)
def test_a_result_depends_neither_on_mates_nor_on_their_targets(name: str) -> None:
    images, targets = slices(3), [GE, SIEMENS, {"EchoTime": 2.0}]
    together = edited(name, images, targets, [5, 6, 7])
    for i in range(3):
        alone = edited(name, images[i : i + 1], targets[i : i + 1], [5 + i])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)
    assert not torch.allclose(together[0], edited(name, images, [SIEMENS] * 3, [5, 6, 7])[0], atol=1e-4)


@pytest.mark.parametrize("name", SETUPS)
def test_rows_that_leave_are_nan_and_spare_the_rest(name: str) -> None:
    settings = Settings.of(Options(), SETUPS[name])

    def on_step(done: int, total: int) -> set[int]:
        return {0}

    result = editor(name).edit(slices(2), [GE, GE], [5, 6], settings, on_step, sources=[SIEMENS] * 2)
    assert result[0].isnan().all()
    torch.testing.assert_close(result[1], edited(name, slices(2), [GE, GE], [5, 6])[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("inversion", 1e-5), ("structure", 0.0), ("direct", 1e-6), ("direct with tone", 1e-6)],
)
def test_an_edit_to_the_sources_own_parameters_gives_the_source(name: str, tolerance: float) -> None:
    images = slices(2)
    result = edited(name, images, [SIEMENS] * 2, [5, 6])
    torch.testing.assert_close(result, images, atol=tolerance, rtol=0)


def test_structure_adds_the_difference_as_often_as_guidance_says() -> None:
    once, twice = (
        edited("structure", slices(2), [GE] * 2, [5, 6], Options(guidance_scale=w, steps=1)) - slices(2)
        for w in (1.0, 2.0)
    )
    torch.testing.assert_close(twice, 2 * once)
    assert once.abs().mean() > 1e-3


def test_structure_shows_the_noise_first_and_the_slice_second() -> None:
    class Noting(Tilted):
        def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
            self.seen = x
            return super().forward(x, t, condition)

    network, setup = Noting(), SETUPS["structure"]
    settings = Settings.of(Options(steps=1), setup)
    Editor(network, editor("structure").encoding, setup).edit(slices(2), [GE] * 2, [5, 6], settings)
    torch.testing.assert_close(network.seen[:, 1:], slices(2).repeat(2, 1, 1, 1))
    assert torch.equal(network.seen[:2, 0], network.seen[2:, 0]), "both walks begin with the same noise"


def test_a_tone_network_changes_what_the_editor_made() -> None:
    toned, plain = (edited(name, slices(1), [GE], [5]) for name in ("direct with tone", "direct"))
    moved = (toned - plain).abs()
    assert moved[..., 12:].mean() > 10 * moved[..., :4].mean() > 0


def test_guidance_away_from_the_source_does_nothing_at_the_sources_parameters() -> None:
    """It is the inversion's, and moves the more the stronger it is anywhere else."""
    for target, same in ((SIEMENS, True), (GE, False)):
        weak, strong = (
            edited("inversion", slices(2), [target] * 2, [5, 6], Options(guidance_scale=w)) for w in (1.0, 9.0)
        )
        assert torch.allclose(weak, strong, atol=1e-5) is same


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("paper", 8),
        ("2M", 6),
        ("inversion", 9),
        ("structure", 6),
        ("direct", 2),
    ],
)
def test_evaluations_are_those_that_happen(name: str, count: int) -> None:
    calls = []
    subject = editor(name)
    subject.network.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    settings = Settings.of(Options(), SETUPS[name])
    subject.edit(slices(1), [GE], [5], settings, sources=[SIEMENS])
    assert sum(calls) == count == subject.evaluations(Options())


BAD = {
    "NaN": (lambda: torch.full((1, 1, 16, 16), torch.nan), PixelError),
    "infinite": (lambda: torch.full((1, 1, 16, 16), torch.inf), PixelError),
    "no image at all": (lambda: torch.zeros(0, 1, 16, 16), InputError),
    "fewer targets than slices": (lambda: slices(2), InputError),
    "two channels": (lambda: torch.zeros(1, 2, 16, 16), InputError),
}


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("case", BAD)
def test_a_batch_that_is_no_batch_of_slices_is_refused_by_name(name: str, case: str) -> None:
    build, error = BAD[case]
    with pytest.raises(error):
        edited(name, build(), [GE], [5])


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"guidance_scale": -1.0}, {"steps": -3}, {"guidance_scale": np.nan}], ids=str
)
def test_no_steps_and_negative_guidance_are_refused_at_both_doors(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Options(**wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**{"sampler": None, "steps": 1, "guidance_scale": 1.0, **wrong})


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("shape", [(4, 256), (256, 4)], ids=str)
def test_slices_of_extreme_shape_and_without_contrast_stay_finite(name: str, shape: tuple[int, int]) -> None:
    flat = edited(name, torch.zeros(1, 1, *shape), [GE], [5])
    assert flat.isfinite().all()
    assert edited(name, slices(1, shape), [GE], [5]).shape == (1, 1, *shape)


@pytest.mark.parametrize(
    ("name", "options", "where"),
    [
        ("inversion", {"sampler": "ddim"}, "sampler"),
        ("inversion", {"noise": True}, "noise"),
        ("inversion", {"steps": 51}, "steps"),
        ("paper", {"noise": True}, "noise"),
        ("structure", {"noise": True}, "noise"),
        ("direct", {"guidance_scale": 3.0}, "guidance_scale"),
    ],
)
def test_options_that_a_method_can_not_honour_are_named(name: str, options: dict, where: str) -> None:
    with pytest.raises(InputError) as caught:
        editor(name).check(Options(**options))
    assert caught.value.where == f"/options/{where}"

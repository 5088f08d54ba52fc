import dataclasses
import inspect

import numpy as np
import pytest

from reacquire.phantom import Subject, make_subject
from reacquire.physics import tissue


def test_a_woman_is_reproduced_bit_for_bit_by_her_seed(woman: Subject) -> None:
    again = make_subject(5, density=0.25)
    for field in dataclasses.fields(Subject):
        np.testing.assert_array_equal(getattr(woman, field.name), getattr(again, field.name))


def test_women_differ(woman: Subject) -> None:
    other = make_subject(6, density=0.25)
    assert (woman.labels != other.labels).mean() > 0.02
    assert not np.array_equal(woman.t1_scale, other.t1_scale)


def test_nothing_of_a_woman_can_depend_on_a_protocol() -> None:
    assert set(inspect.signature(make_subject).parameters) == {"seed", "density"}
    source = inspect.getsource(inspect.getmodule(make_subject))  # type: ignore[arg-type]
    assert "protocols" not in source
    assert "scanner import" not in source


def test_density_is_the_share_of_gland(woman: Subject) -> None:
    dense = make_subject(5, density=0.45)
    shares = [(s.labels[s.breast] == tissue.FGT).mean() for s in (woman, dense)]
    assert shares[0] == pytest.approx(0.25, abs=0.05)
    assert shares[1] == pytest.approx(0.45, abs=0.08)
    np.testing.assert_array_equal(woman.alpha, dense.alpha)  # the same body


def test_density_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between"):
        make_subject(1, density=0.9)


def test_breasts_lie_before_the_muscle_with_skin_around(woman: Subject) -> None:
    inside = woman.labels[woman.breast]
    assert not np.isin(inside, [tissue.MUSCLE, tissue.LUNG, tissue.BLOOD, tissue.AIR]).any()
    assert (inside == tissue.SKIN).any()
    gland = woman.labels == tissue.FGT
    assert not (gland & ~woman.breast).any()


def test_every_tissue_of_a_chest_is_there(woman: Subject) -> None:
    present = set(np.unique(woman.labels))
    wanted = {tissue.FAT, tissue.FGT, tissue.SKIN, tissue.MUSCLE, tissue.LUNG, tissue.BLOOD, tissue.MYOCARDIUM}
    assert wanted | {tissue.MARROW, tissue.BONE, tissue.VESSEL, tissue.AIR} <= present


def test_the_fraction_of_gland_is_zero_outside_breast_tissue(woman: Subject) -> None:
    other = ~np.isin(woman.labels, [tissue.FAT, tissue.FGT, tissue.SKIN_EDGE])
    assert not woman.fgt[other].any()


def test_plane_outside_the_woman_is_refused(woman: Subject) -> None:
    with pytest.raises(ValueError, match="outside"):
        woman.plane(500.0)

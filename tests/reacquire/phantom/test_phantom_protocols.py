from collections import Counter

import numpy as np
import pytest

from reacquire.iap import Encoding, load_vocabulary
from reacquire.phantom import DUKE_PROTOCOLS, sample_protocol, sample_scanner


@pytest.mark.parametrize("mode", ["joint", "free"])
@pytest.mark.parametrize("protocol_id", list(DUKE_PROTOCOLS))
def test_every_protocol_is_in_the_vocabulary(protocol_id: str, mode: str) -> None:
    vocabulary = load_vocabulary()
    rng = np.random.default_rng(3)
    for _ in range(40):
        iap = sample_protocol(rng, mode=mode, protocol_id=protocol_id).iap  # type: ignore[arg-type]
        assert set(iap) == set(vocabulary.keywords)
        assert Encoding(vocabulary).encode(iap).known.all()


def test_the_table_has_901_patients() -> None:
    assert sum(row.patients for row in DUKE_PROTOCOLS.values()) == 901


def test_joint_draws_follow_the_table() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_protocol(rng) for _ in range(4000)]
    shares = Counter(p.protocol_id for p in drawn)
    for protocol_id, row in DUKE_PROTOCOLS.items():
        assert shares[protocol_id] / 4000 == pytest.approx(row.patients / 901, abs=0.02)
    te = {s: np.mean([p.te_ms for p in drawn if p.is_siemens == s]) for s in (True, False)}
    assert te[True] == pytest.approx(1.41, abs=0.03)
    assert te[False] == pytest.approx(2.45, abs=0.03)
    r = np.corrcoef([p.te_ms for p in drawn], [p.tr_ms for p in drawn])[0, 1]
    assert r == pytest.approx(0.88, abs=0.04)


def test_free_draws_break_the_link_between_timing_and_protocol() -> None:
    rng = np.random.default_rng(0)
    drawn = [p for p in (sample_protocol(rng, mode="free") for _ in range(2000)) if not p.is_siemens]
    r = np.corrcoef([p.te_ms for p in drawn], [p.tr_ms for p in drawn])[0, 1]
    assert abs(r) < 0.1


def test_vendors_share_one_field_of_view_distribution() -> None:
    rng = np.random.default_rng(1)
    drawn = [sample_protocol(rng) for _ in range(3000)]
    means = [np.mean([p.fov_mm for p in drawn if p.is_siemens == s]) for s in (True, False)]
    assert means[0] == pytest.approx(means[1], abs=3)


def test_scanner_instances_of_one_model_differ() -> None:
    rng = np.random.default_rng(2)
    protocol = sample_protocol(rng, protocol_id="S1")
    scanners = [sample_scanner(rng, protocol) for _ in range(30)]
    assert len({s.filter_width for s in scanners}) == 30
    assert {s.b1_sign for s in scanners} == {-1.0, 1.0}


@pytest.mark.parametrize("bad", [{"mode": "wild"}, {"protocol_id": "X9"}])
def test_unknown_choices_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match="not"):
        sample_protocol(np.random.default_rng(0), **bad)

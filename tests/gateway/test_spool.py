"""The spool: what was acknowledged is there after a kill at any moment, and no path says anything."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.spool import Spool, SpoolError

SERIES, ONE, TWO = "1.2.840.1.77", "1.2.840.1.77.1", "1.2.840.1.77.2"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


def contents(spool: Spool) -> list[list[bytes]]:
    return [[path.read_bytes() for path in held.files] for held in spool.due(0)]


def age(spool: Spool, seconds: float) -> None:
    """Make everything look as old."""
    then = time.time() - seconds
    for folder in ("series", "quarantine"):
        for path in (spool.root / folder).iterdir():
            os.utime(path, (then, then))


def test_a_series_is_due_when_it_has_been_quiet_and_once(spool):
    spool.keep(SERIES, ONE, b"1")
    spool.keep(SERIES, TWO, b"2")
    spool.keep("1.9", "1.9.1", b"9")
    assert spool.due(60) == []
    age(spool, 61)
    held = spool.due(60)
    assert sorted(sorted(p.read_bytes() for p in h.files) for h in held) == [[b"1", b"2"], [b"9"]]
    for series in held:
        spool.submitted(series)
    age(spool, 61)
    assert spool.due(60) == []


def test_a_series_that_goes_on_is_due_again_whole_and_a_repetition_changes_nothing(spool):
    spool.keep(SERIES, ONE, b"1")
    (first,) = spool.due(0)
    spool.submitted(first)
    assert spool.keep(SERIES, ONE, b"1") == "known"
    assert spool.due(0) == []
    assert spool.keep(SERIES, TWO, b"2") == "kept"
    (second,) = spool.due(0)
    assert len(second.files) == 2 and second.digest != first.digest and second.name == first.name
    spool.submitted(second)
    assert spool.due(0) == []


def test_an_instance_that_comes_while_the_series_is_submitted_is_not_forgotten(spool):
    spool.keep(SERIES, ONE, b"1")
    (held,) = spool.due(0)
    spool.keep(SERIES, TWO, b"2")
    spool.submitted(held)
    assert len(spool.due(0)[0].files) == 2


def test_another_object_of_the_same_name_never_replaces_the_first(spool):
    spool.keep(SERIES, ONE, b"1")
    assert spool.keep(SERIES, ONE, b"other") == "conflict"
    assert contents(spool) == [[b"1"]]


def test_a_clock_that_was_set_back_does_not_hold_a_series_for_ever(spool):
    spool.keep(SERIES, ONE, b"1")
    age(spool, -10_000)
    assert len(spool.due(60)) == 1


def test_quarantine_holds_the_object_and_a_code(spool):
    spool.quarantine(b"odd", "no-pixels")
    (entry,) = (spool.root / "quarantine").iterdir()
    assert (entry / "object.dcm").read_bytes() == b"odd"
    assert json.loads((entry / "reason.json").read_text())["code"] == "no-pixels"
    assert spool.counts() == (0, 1)


def test_a_condemned_series_leaves_whole(spool):
    spool.keep(SERIES, ONE, b"1")
    spool.condemn(spool.due(0)[0], "inconsistent-series")
    (entry,) = (spool.root / "quarantine").iterdir()
    assert {path.suffix for path in entry.iterdir()} == {".dcm", ".json"}
    assert (spool.due(0), spool.counts()) == ([], (0, 1))
    assert spool.keep(SERIES, ONE, b"1") == "kept", "and may come again"


def test_what_is_past_its_time_is_deleted_and_nothing_else(spool):
    spool.keep(SERIES, ONE, b"1")
    spool.submitted(spool.due(0)[0])
    spool.keep("1.9", "1.9.1", b"waiting")
    spool.quarantine(b"odd", "no-pixels")
    spool.sweep(keep_s=100, quarantine_s=1000)
    assert spool.counts() == (2, 1)
    age(spool, 500)
    spool.sweep(keep_s=100, quarantine_s=1000)
    assert contents(spool) == [[b"waiting"]]
    assert spool.counts() == (1, 1)
    age(spool, 1001)
    spool.sweep(keep_s=100, quarantine_s=1000)
    assert spool.counts() == (1, 0)


def test_no_path_can_be_traced_to_a_uid_and_names_last_as_long_as_the_spool(tmp_path):
    first = Spool(tmp_path / "a")
    first.keep("../../evil", "1.2.3\0/x", b"1")
    names = sorted(str(p.relative_to(first.root)) for p in first.root.rglob("*"))
    assert not any(part in name for name in names for part in ("evil", "1.2.3", ".."))
    first.close()
    again, other = Spool(tmp_path / "a"), Spool(tmp_path / "b")
    assert again.keep("../../evil", "1.2.3\0/x", b"1") == "known"
    other.keep("../../evil", "1.2.3\0/x", b"1")
    assert other.due(0)[0].name != again.due(0)[0].name, "the digest is keyed"
    assert {(p.stat().st_mode & 0o077) for p in tmp_path.rglob("*")} == {0}, "nobody else may look"
    again.close()
    other.close()


def test_one_process_owns_a_spool(spool):
    with pytest.raises(SpoolError):
        Spool(spool.root)


def dies_at(step: int, root: Path) -> bool:
    """Use a spool in a child that is gone at the given system call; whether it lived to the end.

    It says what was acknowledged by a line per instance in ``acked``.
    """
    child = os.fork()
    if child == 0:
        left = step

        def mortal(call):
            def wrapped(*args, **kwargs):
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(1)
                return call(*args, **kwargs)

            return wrapped

        acked = os.open(root.parent / "acked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for name in ("open", "fsync", "mkdir", "rename", "replace", "unlink", "rmdir"):
            setattr(os, name, mortal(getattr(os, name)))
        spool = Spool(root)
        for number in range(2):
            spool.keep(SERIES, f"{SERIES}.{number}", b"%d" % number * 1000)
            os.write(acked, b"kept %d\n" % number)
        spool.submitted(spool.due(0)[0])
        spool.keep(SERIES, f"{SERIES}.2", b"2" * 1000)
        os.write(acked, b"kept 2\n")
        spool.quarantine(b"odd", "no-pixels")
        os.write(acked, b"quarantined\n")
        spool.condemn(spool.due(0)[0], "inconsistent-series")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_kill_at_any_system_call_loses_nothing_that_was_acknowledged(tmp_path):
    step, survived = 0, False
    while not survived:
        root = tmp_path / str(step) / "spool"
        root.parent.mkdir()
        survived = dies_at(step, root)
        acked = (root.parent / "acked").read_text().splitlines() if (root.parent / "acked").exists() else []
        spool = Spool(root)
        stored = {path.read_bytes() for path in (root / "series").rglob("*.dcm")}
        aside = {path.read_bytes() for path in (root / "quarantine").rglob("*.dcm")}
        whole = {f"kept {n}": b"%d" % n * 1000 for n in range(3)} | {"quarantined": b"odd"}
        assert {whole[line] for line in acked} <= stored | aside, f"step {step}: something is gone"
        assert stored | aside <= set(whole.values()), f"step {step}: half a file"
        late = whole["kept 2"] in stored
        assert late <= bool(spool.due(0)), f"step {step}: what came after the submission is forgotten"
        assert list((root / "tmp").iterdir()) == []
        spool.close()
        step += 1
    assert step > 20, "the child was killed at many different calls"

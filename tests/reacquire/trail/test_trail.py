"""The audit trail tells when somebody altered it, and holds nobody's data."""

import errno
import json
import os
import resource
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reacquire.trail import Event, Trail, chain, check_file, instance_mark, verify_folder

JOB = "0123456789abcdef" * 2


def write(folder, count=5, **options):
    trail = Trail(folder, "service", **options)
    for number in range(count):
        trail.record(Event(action="submit", who=f"key-{number}", job=JOB, operation="segment"))
    trail.close()
    return next(folder.iterdir())


def test_an_untouched_trail_verifies(tmp_path):
    path = write(tmp_path / "trail")
    found = check_file(path)
    assert (found.end, found.broken) == ("close", ())
    assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "trail").stat().st_mode & 0o077 == 0


LINES = 6  # five events and the end


@settings(max_examples=60, deadline=None)
@given(st.integers(0, LINES - 1), st.sampled_from(["alter", "remove", "repeat", "swap"]))
def test_whatever_is_changed_shows(tmp_path_factory, at, how):
    path = write(tmp_path_factory.mktemp("trail"))
    lines = path.read_bytes().splitlines(keepends=True)
    if how == "alter":
        lines[at] = lines[at].replace(b'"action":"', b'"action":"x', 1)
    elif how == "remove":
        del lines[at]
    elif how == "repeat":
        lines.insert(at, lines[at])
    else:
        lines[at], lines[at - 1] = lines[at - 1], lines[at]
    path.write_bytes(b"".join(lines))
    found = check_file(path, chain.GENESIS)
    assert found.broken or not found.end


def test_a_cut_at_the_end_shows_as_a_file_that_was_not_ended(tmp_path):
    path = write(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert [ended for _, ended, _ in verify_folder(tmp_path)] == [False]
    path.write_bytes(path.read_bytes()[:-10])
    assert [broken[-1].reason for _, _, broken in verify_folder(tmp_path)] == ["cut short"]


class Clock(datetime):
    """Noon of ``day``."""

    day = ""

    @classmethod
    def now(cls, tz=None):
        return datetime.fromisoformat(cls.day).replace(hour=12, tzinfo=UTC)


END = Event(action="end", who="worker", job=JOB, outcome="succeeded")


@pytest.fixture
def days(monkeypatch):
    """January of a year in which nobody waits; ``days(3)`` makes it the third."""
    monkeypatch.setattr(chain, "datetime", Clock)

    def become(day):
        Clock.day = f"2026-01-{day:02d}"

    return become


def on_days(trail, days, *numbers):
    for number in numbers:
        days(number)
        trail.record(END)


def broken_in(folder):
    return {path.name[8:10]: [b.reason for b in broken] for path, _, broken in verify_folder(folder) if broken}


def test_the_next_day_goes_on_where_the_last_one_ended(tmp_path, days):
    trail = Trail(tmp_path, "worker", retention_days=1)
    on_days(trail, days, 1, 2, 3)
    trail.close()
    found = list(verify_folder(tmp_path))
    assert [p.name[:10] for p, _, _ in found] == ["2026-01-02", "2026-01-03"], "retention took the first day"
    assert all(ended and not broken for _, ended, broken in found)
    first = found[0][0]
    first.write_bytes(first.read_bytes().replace(b"succeeded", b"cancelled"))
    assert set(broken_in(tmp_path)) == {"02"}


@pytest.mark.parametrize(("gone", "shows_in"), [(1, {"02"}), (2, {"03"}), (3, {"02"})])
def test_a_day_that_somebody_took_shows(tmp_path, days, gone, shows_in):
    trail = Trail(tmp_path, "worker")
    on_days(trail, days, 1, 2, 3)
    trail.close()
    next(tmp_path.glob(f"2026-01-0{gone}-*")).unlink()
    assert set(broken_in(tmp_path)) == shows_in


def test_retention_leaves_a_checkpoint_that_nobody_can_invent(tmp_path, days):
    trail = Trail(tmp_path, "worker", retention_days=1)
    on_days(trail, days, 1, 2, 3)
    (path,) = tmp_path.glob("2026-01-03-*")
    lines = path.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["action"] for line in lines] == ["prune", "end"]
    path.write_bytes(lines[1])
    assert "the file before this one is gone" in broken_in(tmp_path)["02"][0]


def test_a_process_that_was_silent_for_longer_than_retention_goes_on_soundly(tmp_path, days):
    quiet, busy = (Trail(tmp_path, name, retention_days=2) for name in ("service", "worker"))
    on_days(quiet, days, 1)
    on_days(busy, days, *range(1, 9))
    assert not list(tmp_path.glob("2026-01-01-*")), "even the file that it holds open is gone"
    on_days(quiet, days, 9)
    assert [quiet.close(), busy.close()] == [None, None]
    assert broken_in(tmp_path) == {}


def test_a_folder_that_cannot_be_written_once_is_tried_again(tmp_path, monkeypatch):
    trail = Trail(tmp_path, "service")
    with monkeypatch.context() as full:
        full.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            trail.record(END)
    trail.record(END)
    trail.close()
    assert [(ended, broken) for _, ended, broken in verify_folder(tmp_path)] == [(True, [])]


def test_a_day_that_cannot_begin_is_tried_again(tmp_path, days, monkeypatch):
    trail = Trail(tmp_path, "service")
    on_days(trail, days, 1)
    with monkeypatch.context() as full:
        full.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
        with pytest.raises(OSError, match="read-only"):
            on_days(trail, days, 2)
    on_days(trail, days, 2)
    trail.close()
    assert [path.name[8:10] for path, _, _ in verify_folder(tmp_path)] == ["01", "02"]
    assert broken_in(tmp_path) == {}


@pytest.fixture
def room():
    """``room(BYTES)`` makes the disk full for every file of this process that grows beyond; None gives it back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def allow(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))

    yield allow
    allow(None)


@pytest.mark.parametrize("left", [0, 1, 40])
def test_a_line_that_did_not_fit_leaves_nothing_behind(tmp_path, room, left):
    trail = Trail(tmp_path, "service")
    trail.record(END)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    room(len(before) + left)
    with pytest.raises(OSError, match=r"space|large"):
        trail.record(END)
    assert path.read_bytes() == before
    room(None)
    trail.record(END)
    trail.close()
    found = check_file(path, chain.GENESIS)
    assert (len(path.read_bytes().splitlines()), found.end, found.broken) == (3, "close", ())


def test_a_line_that_did_not_reach_the_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    """Network file systems report a full disk when the file is synced, and may have dropped the line by then."""
    trail = Trail(tmp_path, "service")
    trail.record(END)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        full.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "nor this")))
        with pytest.raises(OSError, match="full"):
            trail.record(END)
    trail.record(END)
    trail.close()
    (path,) = tmp_path.iterdir()
    found = check_file(path, chain.GENESIS)
    assert (len(path.read_bytes().splitlines()), found.end, found.broken) == (3, "close", ())


def test_threads_keep_lines_whole(tmp_path):
    trail = Trail(tmp_path, "service")

    def work():
        for _ in range(25):
            trail.record(Event(action="read", who="anyone", job=JOB))

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    trail.close()
    (path,) = tmp_path.iterdir()
    found = check_file(path)
    assert (len(path.read_bytes().splitlines()), found.end, found.broken) == (101, "close", ())


@pytest.mark.parametrize("field", ["who", "job", "operation", "outcome", "model"])
def test_there_is_no_room_for_free_text(field):
    with pytest.raises(ValidationError):
        Event(**{"action": "submit", "who": "key-1", field: "Doe^Jane, 1.2.840.1"})


def test_an_instance_is_marked_under_a_secret():
    uid = "1.2.840.113619.2.1"
    assert instance_mark(b"a", uid) == instance_mark(b"a", uid) != instance_mark(b"b", uid)
    assert instance_mark(b"a", uid) == "641aad87033b402a"  # HMAC-SHA256, RFC 2104


def test_lines_are_plain_json(tmp_path):
    event = json.loads(write(tmp_path).read_text().splitlines()[0])
    assert set(event) == {"time", "action", "who", "job", "operation", "before"}

"""The audit trail tells when somebody altered it, and holds nobody's data."""

import json
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reacquire.trail import Event, Trail, chain, instance_mark, verify_file
from reacquire.trail.chain import verify_folder

JOB = "0123456789abcdef" * 2


def write(folder, count=5, **options):
    trail = Trail(folder, "service", **options)
    for number in range(count):
        trail.record(Event(action="submit", who=f"key-{number}", job=JOB, operation="segment"))
    trail.close()
    return next(folder.iterdir())


def test_an_untouched_trail_verifies(tmp_path):
    path = write(tmp_path / "trail")
    _, ended, broken = verify_file(path)
    assert (ended, broken) == (True, [])
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
    _, ended, broken = verify_file(path, chain.GENESIS)
    assert broken or not ended


def test_a_cut_at_the_end_shows_as_a_file_that_was_not_ended(tmp_path):
    path = write(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert [ended for _, ended, _ in verify_folder(tmp_path)] == [False]
    path.write_bytes(path.read_bytes()[:-10])
    assert [broken[-1].reason for _, _, broken in verify_folder(tmp_path)] == ["not an event"]


def test_the_next_day_goes_on_where_the_last_one_ended(tmp_path, monkeypatch):
    today = {"date": ""}

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromisoformat(today["date"]).replace(hour=12, tzinfo=UTC)

    monkeypatch.setattr(chain, "datetime", Clock)
    trail = Trail(tmp_path, "worker", retention_days=1)
    for today["date"] in ("2026-01-01", "2026-01-02", "2026-01-03"):
        trail.record(Event(action="end", who="worker", outcome="succeeded"))
    trail.close()
    found = list(verify_folder(tmp_path))
    assert [p.name[:10] for p, _, _ in found] == ["2026-01-02", "2026-01-03"], "retention took the first day"
    assert all(ended and not broken for _, ended, broken in found)
    first, second = (p for p, _, _ in found)
    first.write_bytes(first.read_bytes().replace(b"succeeded", b"cancelled"))
    assert [bool(broken) for _, _, broken in verify_folder(tmp_path)] == [True, False]
    first.unlink()
    assert not any(broken for _, _, broken in verify_folder(tmp_path)), "a removed day is retention's right"
    assert second.exists()


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
    assert (len(path.read_bytes().splitlines()), verify_file(path)[1:]) == (101, (True, []))


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

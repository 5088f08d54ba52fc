"""Trackers copy the losses into the run's folder, offline, and name nobody."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from getpass import getuser
from pathlib import Path

import pytest
from fake_cache import write_fake_cache

from training.config import Phase, TrainConfig
from training.runs import run_training

pytestmark = pytest.mark.timeout(900)  # MLflow is slow to load
ROOT = Path(__file__).resolve().parents[2]
TINY = TrainConfig("segmenter", "smoke", "default", (Phase(3, 4, 1e-3),), checkpoint_every=2)
# mlflow warns on import in ways that are not ours: hence a process of its own, in which connecting anywhere is an error
PROGRAM = """
import sys
def deny(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("network:", event, args[1:], flush=True)
        import os; os._exit(3)
sys.addaudithook(deny)
from pathlib import Path
from training.tracking import open_log
run, done, until = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with open_log(run, done, ("tensorboard", "mlflow")) as log:
    for step in range(done, until):
        log(step, {"loss": 1 / (step + 1)}, 1e-3)
"""


def silent(step: int, loss: float) -> None:
    """No progress bar in tests."""


def track(run: Path, done: int, until: int) -> None:
    words = [sys.executable, "-c", PROGRAM, str(run), str(done), str(until)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "USER": "unmistakable", "LOGNAME": "unmistakable"}
    result = subprocess.run(words, env=environment, cwd=run, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after step 4 with a checkpoint of three steps, and went on to the end."""
    run = tmp_path_factory.mktemp("run")
    track(run, 0, 5)
    track(run, 3, 6)
    return run


def test_nothing_is_sent_and_all_steps_are_there_once(tracked: Path) -> None:
    losses = [json.loads(line) for line in (tracked / "losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in losses] == list(range(6))
    (metric,) = (tracked / "mlflow").rglob("metrics/loss")
    assert [int(line.split()[2]) for line in metric.read_text().splitlines()] == list(range(6))


def test_the_event_files_hold_the_losses_and_say_where_the_run_went_on(tracked: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    files = sorted((tracked / "tensorboard").iterdir())
    assert [path.name for path in files] == ["events.out.tfevents.0000000000", "events.out.tfevents.0000000003"]
    data, events = files[1].read_bytes(), []
    while data:  # length (8 bytes), its checksum (4), the event, its checksum (4)
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    assert (events[1].step, events[1].session_log.status) == (3, 1)
    shown = {event.step: event.summary.value[0].simple_value for event in events[2:]}
    assert shown == pytest.approx({step: 1 / (step + 1) for step in (3, 4, 5)})


def test_neither_user_nor_machine_nor_folder_is_named(tracked: Path) -> None:
    names = [path.name for path in tracked.rglob("*")]
    text = b"\n".join(path.read_bytes() for path in tracked.rglob("*") if path.is_file())
    for secret in ("unmistakable", socket.gethostname(), str(tracked), f"user_id: {getuser()}"):
        assert secret.encode() not in text
        assert not any(secret in name for name in names)


def test_a_run_is_tracked_only_when_asked(tmp_path: Path) -> None:
    write_fake_cache(tmp_path / "cache")
    run_training(tmp_path / "cache", tmp_path / "plain", TINY, resume=False, report=silent)
    config = replace(TINY, seed=1)
    run_training(tmp_path / "cache", tmp_path / "shown", config, resume=False, report=silent, trackers=("tensorboard",))
    added = {p.name for p in (tmp_path / "shown").iterdir()} - {p.name for p in (tmp_path / "plain").iterdir()}
    assert added == {"tensorboard"}

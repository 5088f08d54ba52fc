"""What a run writes down as it goes: ``losses.jsonl`` always, TensorBoard's and MLflow's files where asked for.

The first is the source of truth. The others are copies of it for viewers, in the run's folder; they name neither user
nor machine, and nothing is sent anywhere.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol

LOSSES = "losses.jsonl"
TrackerName = Literal["tensorboard", "mlflow"]
Log = Callable[[int, Mapping[str, float], float], None]


class Tracker(Protocol):
    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


@contextmanager
def open_log(run: Path, done: int, trackers: tuple[TrackerName, ...] | None) -> Iterator[Log]:
    """A function of (step, losses, learning rate) that writes them down; with None it writes nothing.

    One line per step in ``losses.jsonl``, which is cut back to the ``done`` steps that the checkpoint knows of.

    Raises
    ------
    OSError
        When the file can't be written.
    """
    if trackers is None:
        yield _nothing
        return
    path = run / LOSSES
    kept = path.read_text(encoding="utf-8").splitlines(keepends=True)[:done] if path.exists() else []
    cut = path.with_name(f"{LOSSES}.part")
    cut.write_text("".join(kept), encoding="utf-8")
    cut.replace(path)
    opened = [TRACKERS[name](run, done) for name in trackers]
    file = path.open("a", encoding="utf-8", buffering=1)

    def log(step: int, values: Mapping[str, float], rate: float) -> None:
        try:
            file.write(json.dumps({"step": step, **values}) + "\n")
            for tracker in opened:
                tracker.log(step, {**values, "learning_rate": rate})
        except OSError as error:
            raise OSError(
                f"{path} or a tracker's file beside it can't be written ({error}); all steps up to the last checkpoint "
                "are kept: free some space, then run the same command with --resume"
            ) from error

    try:
        yield log
    finally:
        with suppress(
            OSError
        ):  # lines are flushed one by one: what could fail here has failed before, and was reported
            file.close()
            for tracker in opened:
                tracker.close()


def _nothing(step: int, values: Mapping[str, float], rate: float) -> None:
    """Of several processes one writes."""


class TensorBoard:
    """Event files under ``run/tensorboard``, one for each start of the run.

    Written record by record: the library's own writer puts the machine's name into the file's name.
    """

    def __init__(self, run: Path, done: int) -> None:
        event_pb2, summary_pb2, record_writer = _tensorboard()
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder = run / "tensorboard"
        folder.mkdir(exist_ok=True)
        self._writer = record_writer.RecordWriter(str(folder / f"events.out.tfevents.{done:010d}"))
        self._write(file_version="brain.Event:2")
        # the viewer forgets what an earlier start wrote from here on
        self._write(step=done, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def _write(self, **fields: object) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())

    def log(self, step: int, values: Mapping[str, float]) -> None:
        rows = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step=step, summary=self._summary(value=rows))

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A file store under ``run/mlflow`` with one experiment and one run, which a resumed run goes on with."""

    def __init__(self, run: Path, done: int) -> None:  # noqa: ARG002 (the store knows)
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before the import: that is when it asks
        os.environ["DO_NOT_TRACK"] = "true"
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        store, entities = _mlflow()
        self._metric = entities.Metric
        # an artefact location that is no path: paths hold the names of users
        self._store = store(str(run / "mlflow"), "mlflow-artifacts:/")
        runs = self._store.search_runs(["0"], "", entities.ViewType.ACTIVE_ONLY)
        if runs:
            self._id = runs[0].info.run_id
            history = self._store.get_metric_history(self._id, "loss")
            self._next = max((metric.step for metric in history), default=-1) + 1
        else:
            info = self._store.create_run("0", "", int(time.time() * 1000), [], run_name="run").info
            self._id, self._next = info.run_id, 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._next:  # a step that is done again after a kill was logged before
            now = int(time.time() * 1000)
            self._store.log_batch(self._id, [self._metric(k, v, now, step) for k, v in values.items()], [], [])

    def close(self) -> None:
        """Nothing is held open."""


TRACKERS: dict[TrackerName, Callable[[Path, int], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def _tensorboard() -> tuple:
    try:
        from tensorboardX import record_writer
        from tensorboardX.proto import event_pb2, summary_pb2
    except ImportError as error:
        raise ImportError("--track tensorboard needs the extra: pip install 'reacquire[tracking]'") from error
    return event_pb2, summary_pb2, record_writer


def _mlflow() -> tuple:
    try:
        from mlflow import entities
        from mlflow.store.tracking.file_store import FileStore
    except ImportError as error:
        raise ImportError("--track mlflow needs the extra: pip install 'reacquire[tracking]'") from error
    return FileStore, entities

"""Presence, blobs, broker, configuration and log lines of the jobs package."""

import io
import json
import logging
import sys
import threading
import time

import pytest
import structlog
from builders import SECRET
from pydantic import SecretStr, ValidationError

from reacquire.errors import JobError
from reacquire.jobs import JobsConfig, new_job_id
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.broker import QUEUE, Publisher, broker_url, celery_app
from reacquire.jobs.logs import TALKATIVE, json_handler, processors, set_up
from reacquire.jobs.metrics import EVERY, PREFIX
from reacquire.jobs.presence import Presence, WorkerInfo
from reacquire.jobs.record import Claim

INFO = WorkerInfo("w1", "cpu", "phantom-v0", "0.1.0")


def test_a_worker_is_alive_until_its_heartbeat_is_old(store):
    presence = Presence(store)
    presence.beat(INFO)
    assert presence.alive() == {"w1": INFO}
    assert presence.bury() == []
    store.client.zadd(store.key("workers"), {"w1": 1})
    assert presence.alive() == {}
    assert presence.bury() == ["w1"]
    assert presence.bury() == []


def test_a_worker_that_says_goodbye_is_gone_at_once(store):
    presence = Presence(store)
    presence.beat(INFO)
    presence.leave("w1")
    assert presence.alive() == {}


def test_one_worker_reconciles_per_period(store):
    presence = Presence(store)
    assert presence.take_turn("a", 1.0)
    assert not presence.take_turn("b", 60.0)
    time.sleep(1.1)
    assert presence.take_turn("b", 60.0)


@pytest.mark.parametrize("url", ["memory:///", None])
def test_blobs_come_back_and_go(config, url):
    blobs = BlobStore.open(url or config.blob_url)
    job_id, claim = new_job_id(), Claim("0" * 32, 1)
    keys = blobs.put_inputs(job_id, [b"one", b"two"])
    assert [blobs.get(key) for key in keys] == [b"one", b"two"]
    blobs.drop_inputs(job_id)
    with pytest.raises(JobError) as refusal:
        blobs.get(keys[0])
    assert refusal.value.code == "job-expired"
    (artifact,) = blobs.put_artifacts(claim, {"a.dcm": b"abc"})
    assert (artifact.name, artifact.size, blobs.get(artifact.key)) == ("a.dcm", 3, b"abc")
    blobs.check()


def test_two_runs_of_a_job_never_share_a_key(blobs):
    job_id = new_job_id()
    (one,) = blobs.put_artifacts(Claim(job_id, 1), {"a.dcm": b"one"})
    (two,) = blobs.put_artifacts(Claim(job_id, 2), {"a.dcm": b"two"})
    blobs.drop_run(Claim(job_id, 1))
    assert one.key != two.key
    assert blobs.get(two.key) == b"two"
    blobs.drop_job(job_id)
    with pytest.raises(JobError):
        blobs.get(two.key)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://h:1/2", "rediss://h:1/2"),
        ("unix:///tmp/r.sock?db=3", "redis+socket:///tmp/r.sock?virtual_host=3"),
    ],
)
def test_the_broker_spells_urls_its_own_way(url, expected):
    assert broker_url(url) == expected


def test_a_message_carries_the_job_id_and_nothing_else(store, config):
    job_id, app = new_job_id(), celery_app(config)
    publisher = Publisher(app)
    publisher.publish([job_id])
    assert publisher.waiting() == 1
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(QUEUE).get(timeout=2)
        message.ack()
    args, kwargs, _ = message.payload
    assert (args, kwargs) == ([job_id], {})


def test_the_visibility_timeout_outlasts_any_job():
    assert JobsConfig(job_timeout_s=100).visibility_timeout_s > 100


def test_the_redis_url_is_masked_and_unknown_fields_are_refused():
    assert "hunter2" not in repr(JobsConfig(redis_url=SecretStr("redis://:hunter2@h/0")))
    with pytest.raises(ValidationError):
        JobsConfig(key_prefx="x")


def test_metric_names_share_a_prefix_and_have_no_ids_as_labels():
    names = [m.name for m in EVERY]
    assert len(names) == len(set(names)) > 15
    assert all(n.startswith(PREFIX) for n in names)
    assert {label for m in EVERY for label in m.labels} <= {
        "method", "route", "status", "operation", "state", "code", "outcome", "model", "version", "stage", "device",
    }  # fmt: skip


def test_no_text_of_an_exception_reaches_the_log():
    stream = io.StringIO()
    logger = logging.getLogger("worker.test")
    logger.addHandler(json_handler(stream))
    logger.propagate = False
    chain = [*processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("standard")
        structlog.wrap_logger(logger, processors=chain, wrapper_class=structlog.stdlib.BoundLogger).exception("ours")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["standard", "ours"]
    assert all(line["error"]["type"] == "ValueError" for line in lines)
    assert SECRET not in stream.getvalue()


@pytest.fixture
def untouched_logging(monkeypatch):
    """What ``set_up`` changes, put back afterwards."""
    root, hooks = logging.getLogger(), (sys.excepthook, sys.unraisablehook, threading.excepthook)
    handlers, level, kept = root.handlers[:], root.level, structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}
    yield
    root.handlers[:], root.level = handlers, level
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
    logging.captureWarnings(False)
    structlog.configure(**kept)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


def test_a_program_tells_nothing_of_addresses_warnings_or_dying_threads(untouched_logging):
    stream = io.StringIO()
    set_up("gateway", "info", stream)

    def die() -> None:
        raise ValueError(SECRET)

    logging.getLogger("httpx").info("HTTP Request: GET https://pacs/studies/%s", SECRET)
    logging.getLogger("pynetdicom.acse").info("%s", SECRET)
    logging.getLogger("py.warnings").warning(SECRET)
    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["py.warnings", "gateway"]
    assert (lines[1]["event"], lines[1]["error"]["type"]) == ("uncaught error", "ValueError")
    assert SECRET not in stream.getvalue()


def test_what_other_libraries_say_is_withheld():
    stream = io.StringIO()
    logger = logging.getLogger("pydicom.test")
    handler = json_handler(stream)
    logger.addHandler(handler)
    logger.propagate = False
    logger.warning("Invalid value %s", SECRET)
    assert json.loads(stream.getvalue())["logger"] == "pydicom.test"
    assert SECRET not in stream.getvalue()

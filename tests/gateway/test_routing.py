"""From series and rules to jobs, and from the spool to the store: once, whole, and again after trouble."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from builders import SECRET, make_dataset, make_mr, make_series
from pydicom import dcmread

from gateway.collect import Collector
from gateway.receive import Identity, Receiver
from gateway.routing import route_files, route_reference
from gateway.spool import Spool
from reacquire.dicom import Limits
from reacquire.errors import DatasetError, OverloadedError
from reacquire.pacs.config import PacsConfig
from reacquire.pacs.reference import SeriesReference

REFERENCE = SeriesReference("here", "1.2.3.2", "1.2.3.3")
RULES: list[dict[str, Any]] = [
    {
        "name": "breast",
        "when": {"BodyPartExamined": "breast", "SeriesDescription": "t1 *"},
        "do": [
            {"operation": "segment"},
            {"operation": "counterfactual", "target": {"EchoTime": 2.4}, "options": {"seed": 7}},
        ],
        "return_to": "there",
    }
]


def pacs(rules: Sequence[dict[str, Any]] = RULES, **scp: Any) -> PacsConfig:
    sites = {name: {"base_url": f"https://{name}.test/dicom-web"} for name in ("here", "there")}
    return PacsConfig.model_validate({"sites": sites, "rules": list(rules), "scp": {"series_quiet_s": 0.05, **scp}})


def metadata(count: int = 2, **changes: Any) -> list[dict[str, Any]]:
    sets = [make_dataset(SOPInstanceUID=f"1.2.3.4.{n}", **changes) for n in range(count)]
    return [ds.to_json_dict(1024, lambda _: "http://bulk") for ds in sets]


def test_a_series_of_a_pacs_becomes_a_job_per_action_that_delivers_where_the_rule_says(intake):
    routed = route_reference(pacs().rules, metadata(), REFERENCE, intake, notify=True)
    assert (routed.outcome, routed.reason, len(routed.submissions)) == ("matched", None, 2)
    records = [intake.store.get(s.job_id) for s in routed.submissions]
    assert [(r.operation, r.stage, r.deliver_to, r.notify) for r in records] == [
        ("segment", "fetch", "there", True),
        ("counterfactual", "fetch", "there", True),
    ]
    assert (records[1].spec.target, records[1].spec.options.seed) == ({"EchoTime": 2.4}, 7)
    assert all(r.spec.options.watermark for r in records), "what goes to a PACS is marked"
    assert SeriesReference.of_bytes(intake.blobs.get(records[0].inputs[0])) == REFERENCE


def test_without_a_place_to_return_to_results_go_to_where_the_series_came_from(intake):
    rules = [{**RULES[0], "return_to": None}]
    routed = route_reference(pacs(rules).rules, metadata(), REFERENCE, intake)
    assert {intake.store.get(s.job_id).deliver_to for s in routed.submissions} == {"here"}


def test_a_series_that_fires_twice_is_done_once_and_one_that_grew_again(intake):
    first = route_reference(pacs().rules, metadata(2), REFERENCE, intake)
    again = route_reference(pacs().rules, list(reversed(metadata(2))), REFERENCE, intake)
    assert [s.job_id for s in again.submissions] == [s.job_id for s in first.submissions]
    assert not any(s.created for s in again.submissions)
    assert all(s.created for s in route_reference(pacs().rules, metadata(3), REFERENCE, intake).submissions)
    changed = json.loads(json.dumps(RULES))
    changed[0]["do"][0]["options"] = {"seed": 9}
    created = [s.created for s in route_reference(pacs(changed).rules, metadata(2), REFERENCE, intake).submissions]
    assert created == [True, False], "an action that was changed is another one"


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({"SyntheticData": "YES"}, "refused", "already-synthetic"),
        ({"Manufacturer": "Reacquire"}, "refused", "already-synthetic"),
        ({"Modality": "SEG"}, "refused", "unsupported-modality"),
        ({"SeriesDescription": "localizer"}, "unmatched", "no-rule"),
    ],
)
def test_what_is_not_wanted_becomes_no_job(intake, changes, outcome, reason):
    routed = route_reference(pacs().rules, metadata(**changes), REFERENCE, intake)
    assert (routed.outcome, routed.reason, routed.submissions) == (outcome, reason, ())
    assert intake.store.depth() == 0


def test_neither_keys_nor_records_hold_what_the_header_says(intake, store):
    route_reference(pacs().rules, metadata(), REFERENCE, intake)
    route_files(pacs().rules, make_series(2), ("a", "b"), intake)
    everything = []
    for key in store.client.scan_iter(f"{store.config.key_prefix}:*"):
        kind = store.client.type(key)
        everything += [key, str(store.client.hgetall(key) if kind == "hash" else store.client.zrange(key, 0, -1))]
    assert len(everything) >= 8
    assert not [text for text in everything if SECRET in text or "1.2.3.3" in text]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


def take(spool: Spool, *files: bytes) -> None:
    receiver = Receiver(spool, 0)
    for data in files:
        ds = dcmread(BytesIO(data))
        answer = receiver.receive(Identity(ds.SOPClassUID, ds.SOPInstanceUID), lambda data=data: data)
        assert answer.status == 0


def settle(collector: Collector) -> int:
    time.sleep(0.08)
    return collector.tick()


def jobs(intake) -> list[str]:
    return intake.store.client.zrange(intake.store.key("queued"), 0, -1)


def test_a_received_series_becomes_jobs_once(spool, intake):
    outcomes: list[str] = []
    collector = Collector(spool, pacs(), intake, outcomes.append)
    take(spool, *make_series(3))
    assert (settle(collector), settle(collector)) == (1, 0)
    records = [intake.store.get(job) for job in jobs(intake)]
    assert [(r.operation, r.stage, r.deliver_to, len(r.inputs)) for r in records] == [
        ("segment", "compute", "there", 3),
        ("counterfactual", "compute", "there", 3),
    ]
    assert outcomes == ["matched"]


def test_a_series_that_goes_on_is_submitted_again_whole_and_a_repetition_is_not(spool, intake):
    collector = Collector(spool, pacs(), intake)
    files = make_series(3)
    take(spool, *files[:2])
    settle(collector)
    take(spool, *files[:2])
    assert settle(collector) == 0
    take(spool, files[2])
    assert settle(collector) == 1
    assert sorted(len(intake.store.get(job).inputs) for job in jobs(intake)) == [2, 2, 3, 3]


def test_after_a_kill_between_the_job_and_the_note_of_it_nothing_is_done_twice(spool, intake):
    take(spool, *make_series(2))
    time.sleep(0.08)
    (held,) = spool.due(0.05)
    files = [path.read_bytes() for path in held.files]
    before = route_files(pacs().rules, files, (held.name, held.digest), intake)
    assert settle(Collector(spool, pacs(), intake)) == 1
    assert sorted(jobs(intake)) == sorted(s.job_id for s in before.submissions)


def test_a_series_that_makes_no_sense_is_put_aside_with_the_code(spool, intake):
    outcomes: list[str] = []
    take(spool, make_mr(), make_mr(SOPInstanceUID="1.2.3.4.2", ImageOrientationPatient=[1, 0, 0, 0, 0.999, 0.0447]))
    assert settle(Collector(spool, pacs(), intake, outcomes.append)) == 1
    (reason,) = (spool.root / "quarantine").glob("*/reason.json")
    assert json.loads(reason.read_text())["code"] in DatasetError.codes
    assert (outcomes, jobs(intake), spool.counts()) == (["quarantined"], [], (0, 1))


def test_a_series_that_no_rule_wants_leaves_after_its_time(spool, intake):
    collector = Collector(spool, pacs([], keep_s=0), intake)
    take(spool, make_mr())
    assert settle(collector) == 1
    collector.sweep()
    assert spool.counts() == (0, 0)


@pytest.mark.parametrize("error", [OverloadedError("full", code="overloaded"), ConnectionError(f"{SECRET} refused")])
def test_trouble_with_the_queue_keeps_the_series_and_tries_again_later(spool, intake, monkeypatch, caplog, error):
    collector = Collector(spool, pacs(), intake)
    take(spool, *make_series(2))
    with monkeypatch.context() as patch:
        patch.setattr("gateway.collect.route_files", lambda *_, **__: (_ for _ in ()).throw(error))
        assert settle(collector) == 0
        assert settle(collector) == 0, "not before its time"
    assert SECRET not in caplog.text
    assert settle(Collector(spool, pacs(), intake)) == 1, "a process that was started again tries at once"
    assert len(jobs(intake)) == 2


def test_a_series_beyond_the_limits_is_put_aside_before_it_is_read(spool, intake):
    take(spool, *make_series(3))
    small = replace(intake, limits=Limits(instances=2))
    assert settle(Collector(spool, pacs(), small)) == 1
    (reason,) = (spool.root / "quarantine").glob("*/reason.json")
    assert json.loads(reason.read_text())["code"] == "too-large"

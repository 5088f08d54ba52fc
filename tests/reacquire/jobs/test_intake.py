"""The way in, when something breaks on it: a job is entered whole, or nothing of it is left."""

import pytest
from builders import make_mr
from fakes import SilentPublisher

from reacquire.dicom import Limits
from reacquire.iap import load_vocabulary
from reacquire.jobs.intake import Intake
from reacquire.jobs.record import JobRecord
from reacquire.jobs.spec import OperationSpec


@pytest.fixture
def intake(store, blobs) -> Intake:
    return Intake(store, blobs, SilentPublisher(), load_vocabulary(), Limits())


def test_what_was_accepted_is_the_job_as_the_store_has_it(intake, store):
    submission = intake.files(OperationSpec(operation="segment"), [make_mr()])
    assert submission.created
    assert submission.record == store.get(submission.job_id)


def test_a_job_whose_record_cannot_be_read_back_leaves_nothing(intake, store, blobs, monkeypatch):
    """As after an upgrade, when a newer version has written what this one does not know."""

    def newer(*_):
        raise TypeError("unexpected keyword")

    monkeypatch.setattr(JobRecord, "from_hash", newer)
    with pytest.raises(TypeError):
        intake.files(OperationSpec(operation="segment"), [make_mr()], key="once")
    assert store.depth() == 0
    assert list(store.client.scan_iter(store.key("job:*"))) == []
    monkeypatch.undo()
    assert intake.files(OperationSpec(operation="segment"), [make_mr()], key="once").created

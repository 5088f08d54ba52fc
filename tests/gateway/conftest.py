"""The Redis fixtures and an intake, for the tests of this folder."""

import pytest
from fakes import SilentPublisher
from redis_fixture import blobs, config, quiet_structlog, redis_url, store

from reacquire.dicom import Limits
from reacquire.iap import load_vocabulary
from reacquire.jobs.intake import Intake

__all__ = ["blobs", "config", "quiet_structlog", "redis_url", "store"]


@pytest.fixture
def intake(store, blobs) -> Intake:
    return Intake(store, blobs, SilentPublisher(), load_vocabulary(), Limits())

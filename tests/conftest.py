"""Fixtures that every test folder shares."""

from pathlib import Path

import pytest

# The longest files, a minute or nearly so each, begin first: else the last of them runs while the other processes idle.
LONGEST = (
    "test_privacy_routes", "test_augment", "test_serve", "test_phantom_stats", "test_reproduce", "test_samples",
    "test_distributed", "test_worker_process", "test_training_cli", "test_downstream", "test_bundles_at_run_time",
    "test_back_pressure", "test_validation",
)  # fmt: skip

# Go over code that other tests measure, many times: measuring doubles their time.
UNMEASURED = ("test_dicom_conformance", "test_dicom_round_trip")
OWN_TESTS = Path(__file__).resolve().parent / "reacquire"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slices and anatomies; it is beside the checkout on the developers' machines only."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED_DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, all else in its order (``make test`` keeps pytest-xdist from sorting by number of tests).

    Coverage of the library is that by its own tests: measuring makes a test of pure Python take two thirds longer.
    """
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))
    for item in items:
        if OWN_TESTS not in item.path.parents or item.path.stem in UNMEASURED:
            item.add_marker(pytest.mark.no_cover)

"""A real Orthanc in a network of its own; everything here is of the marker ``pacs``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.orthanc_server import missing
from examples.own_network import own_network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark these tests, and skip them where there is no Orthanc."""
    lacking = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.pacs)
            if lacking:
                item.add_marker(pytest.mark.skip(reason=lacking))


@pytest.fixture(scope="session", autouse=True)
def network() -> Iterator[bool]:
    """What these tests start can be reached by what they start only, where the kernel allows that."""
    with own_network() as own:
        yield own

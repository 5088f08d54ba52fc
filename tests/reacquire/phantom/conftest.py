"""One woman and one scan for every test of the phantom: drawing a woman takes a second."""

import numpy as np
import pytest

from reacquire.phantom import Protocol, Scanner, Subject, make_subject, sample_protocol, sample_scanner


@pytest.fixture(scope="session")
def woman() -> Subject:
    return make_subject(5, density=0.25)


@pytest.fixture(scope="session")
def z_mm(woman: Subject) -> float:
    return float(np.mean(woman.z_range))


@pytest.fixture(scope="session")
def scans() -> dict[str, tuple[Protocol, Scanner]]:
    """One acquisition per row of the table."""
    found = {}
    for protocol_id in ("S1", "S2", "S3", "S4", "G1", "G2", "G3", "G4", "G5", "G6", "G7"):
        rng = np.random.default_rng([7, sum(protocol_id.encode())])
        protocol = sample_protocol(rng, protocol_id=protocol_id)
        found[protocol_id] = (protocol, sample_scanner(rng, protocol))
    return found

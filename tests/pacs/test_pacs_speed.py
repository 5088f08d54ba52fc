"""How fast a series goes from the PACS through the pipeline and back, with networks that take no time.

The figure is printed: 19 to 46 slices a second on two cores of different machines, half of that beside other work. What
fails is a detour that shows on any machine, such as a connection or a process per slice.
"""

import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from builders import make_series
from loop import Loop, instances, whole_loop
from slices import identity

SLICES, LEAST_PER_S = 100, 4.0


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    worker = ("-m", "tests.stub_worker", "--without-core")
    with whole_loop(tmp_path_factory.mktemp("speed"), hook=False, worker=worker) as running:
        yield running


def test_a_hundred_slices_go_there_and_back(loop, capsys):
    noise = np.random.default_rng(0).integers(100, 4000, (352, 352)).astype("<u2")
    changes = {"Rows": 352, "Columns": 352, "PixelData": noise.tobytes(), "ManufacturerModelName": "Skyra"}
    files = make_series(SLICES, **changes)
    loop.orthanc.store(files)
    study, series = identity(files[0])
    request = {"dicomweb": {"site": "main", "study": study, "series": series}, "target": {"EchoTime": 2.4}}
    started = time.monotonic()
    answer = loop.stack.post("/v1/counterfactual", request)
    assert answer.status_code == 202, answer.text
    job = loop.stack.finished(answer.json()["id"], 180)
    seconds = time.monotonic() - started
    with capsys.disabled():
        sys.stdout.write(f"\n{SLICES} slices pulled, edited by a stub, stored and verified: {SLICES / seconds:.1f}/s\n")
    assert job["status"] == "succeeded", job
    assert len(instances(loop.results(study)["MR"])) == SLICES
    assert SLICES / seconds >= LEAST_PER_S

"""The PACS path must not be what one waits for: slices a second on loopback, with a pipeline that costs nothing."""

import sys
import time

import numpy as np
import pytest
from builders import make_mr
from deriving import DerivingPipeline
from fake_pacs import FakePacs, running

from gateway.courier import Courier, connector
from gateway.metrics import CourierMetrics
from gateway.settings import GatewaySettings
from reacquire.jobs import OperationSpec
from reacquire.jobs.leases import Leases
from reacquire.pacs import PacsConfig
from reacquire.pacs.reference import SeriesReference
from worker.batching import BatchPolicy
from worker.metrics import WorkerMetrics
from worker.runner import Runner

SLICES, SIDE = 100, 448
TARGET = 20  # slices a second


@pytest.fixture
def pacs() -> FakePacs:
    pacs = FakePacs()
    noise = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE), dtype=np.uint16)
    for n in range(SLICES):
        uid = f"1.2.3.4.{n + 1}"
        pacs.add(make_mr(np.roll(noise, n), SOPInstanceUID=uid, ImagePositionPatient=["0", "0", str(n)]))
    return pacs


def test_a_series_goes_there_and_back_fast_enough(config, store, blobs, intake, pacs, record_property, capsys):
    policy, seconds, cpu = BatchPolicy(8, 10**9), {}, 0.0
    worker = Runner("w", DerivingPipeline(), store, blobs, Leases(store), policy, WorkerMetrics(), list)
    with running(pacs) as server:
        sites = PacsConfig.model_validate({"sites": {"pacs": {"base_url": server.url}}})
        leases = Leases(store)
        connect = connector(sites, lambda _: None, intake.limits, leases)
        settings = GatewaySettings(**config.model_dump())
        courier = Courier("c", settings, sites, intake, leases, CourierMetrics(), connect)
        spec = OperationSpec(operation="counterfactual", target={"MagneticFieldStrength": 3.0})
        job_id = intake.reference(spec, SeriesReference("pacs", "1.2.3.2", "1.2.3.3"), deliver_to="pacs").job_id
        for stage in ("fetch", "compute", "deliver"):
            started = time.perf_counter(), time.process_time()
            if stage == "compute":
                worker.handle([job_id])
            else:
                (claim,) = courier._take(1)
                courier.handle(claim)
            seconds[stage] = time.perf_counter() - started[0]
            cpu += time.process_time() - started[1]
    assert store.get(job_id).delivery.stored == SLICES
    speed = SLICES / sum(seconds.values())
    record_property("slices_per_second", speed)
    record_property("slices_per_cpu_second", SLICES / cpu)
    with capsys.disabled():
        parts = ", ".join(f"{stage} {s:.2f} s" for stage, s in seconds.items())
        told = f"{speed:.0f} slices/s ({parts}; CPU {cpu:.2f} s, the PACS included)"
        sys.stdout.write(f"\n{SLICES} slices of {SIDE} x {SIDE}, PACS to PACS on loopback: {told}\n")
    assert SLICES / cpu >= TARGET, "by CPU time: a busy machine is nobody's regression"

"""Micro-batching through HTTP against one in-process batch, the API's memory, and the time to be ready."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from examples.bench.timing import seconds
from examples.embedded import Served, embedded
from reacquire.engine import Pipeline, Raw
from reacquire.jobs.spec import OperationSpec, Options

REQUESTS = 64


def serving_figures(pipeline: Pipeline, data: bytes) -> dict[str, float]:
    """Rates of /predict-iap in slices per second, and what the service takes."""
    direct = in_process_rate(pipeline, data)
    with embedded() as served:
        through_http = served_rate(served, data)
        memory, ready = api_memory_mb(served), served.ready_s
    return {
        "predict_iap_in_process_per_s": direct,
        "predict_iap_http_per_s": through_http,
        "micro_batching_share": through_http / direct,
        "api_rss_mb_after_load": memory,
        "ready_s": ready,
    }


def in_process_rate(pipeline: Pipeline, data: bytes) -> float:
    """Slices per second of /predict-iap's work as one in-process batch, from bytes to documents."""
    spec = OperationSpec(operation="predict-iap", options=Options(allow_synthetic=True))

    def batch() -> None:
        works = [pipeline.prepare(spec, [data]) for _ in range(REQUESTS)]
        for work, raw in zip(works, pipeline.run(works), strict=True):
            if isinstance(raw, Raw):
                pipeline.finish(work, raw)

    return REQUESTS / seconds(batch)


def served_rate(served: Served, data: bytes) -> float:
    """The same through HTTP: 64 single-slice requests at once."""

    def ask(_: int) -> None:
        answer = served.client.post(
            "/predict-iap",
            files={"dicom": ("slice.dcm", data)},
            data={"options": '{"allow_synthetic": true}'},
            headers={"Prefer": "wait=60"},
        )
        if answer.status_code != httpx.codes.OK:
            raise SystemExit(f"/predict-iap: {answer.status_code} {answer.text}")

    with ThreadPoolExecutor(REQUESTS) as pool:
        return REQUESTS / seconds(lambda: list(pool.map(ask, range(REQUESTS))))


def api_memory_mb(served: Served) -> float:
    """Resident memory of the API process."""
    for child in psutil.Process(served.process.pid).children(recursive=True):
        if "service" in child.cmdline():
            return child.memory_info().rss / 1e6
    raise SystemExit("the API process was not found")

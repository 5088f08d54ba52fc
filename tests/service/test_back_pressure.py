"""A flood of submissions: what there is room for is accepted, the rest told when to come again, and memory stays."""

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from api_process import process
from builders import make_mr

ROOM, FLOOD, LIMIT_MIB = 8, 120, 320


def peak_mib(pid):
    """The largest resident memory that a process ever had (proc(5), VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024


def test_a_full_queue_refuses_and_the_process_stays_small(redis_url, tmp_path):
    noise = np.random.default_rng(0).integers(0, 2000, (1024, 1024), dtype=np.uint16)  # 2 MiB each, 240 MiB in all
    data, prefix = make_mr(noise), f"t-{uuid.uuid4().hex[:8]}"
    with process(redis_url, tmp_path, REACQUIRE_MAX_QUEUE=ROOM, REACQUIRE_KEY_PREFIX=prefix) as (api, url):

        def submit(_):
            with httpx.Client(base_url=url, timeout=120) as client:
                return client.post("/v1/segment", files={"dicom": data}, headers={"Prefer": "respond-async"})

        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(submit, range(FLOOD)))
        statuses = [a.status_code for a in answers]
        assert (statuses.count(202), statuses.count(503)) == (ROOM, FLOOD - ROOM)
        refused = [a for a in answers if a.status_code == 503]
        assert {a.json()["code"] for a in refused} == {"overloaded"}
        assert all(int(a.headers["Retry-After"]) > 0 for a in refused)
        kept = [p for p in (tmp_path / "b").rglob("*") if p.is_file()]
        assert len(kept) == ROOM, "of what was refused nothing is left"
        assert httpx.get(f"{url}/livez").status_code == 200
        assert peak_mib(api.pid) < LIMIT_MIB

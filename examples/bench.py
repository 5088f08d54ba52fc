"""Figures that no timed test asserts: counterfactual speed against the paper's, micro-batching, memory, start-up.

Every ratio compares two things measured in this run on this machine.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import torch
import typer

from examples.embedded import Served, embedded
from examples.phantom_case import phantom_case
from reacquire.diffusion import paper_edit
from reacquire.engine import Pipeline, Raw, load_pipeline
from reacquire.jobs.spec import OperationSpec, Options
from reacquire.networks import DENOISERS, Condition, build_denoiser

BUNDLE = Path(os.environ.get("REACQUIRE_BUNDLE", Path(__file__).resolve().parents[1] / "bundles" / "phantom-v1"))
REQUESTS = 64
PAPER_STEPS = 50


TIMING = "best of 3 runs after one to warm up; the paper's edit: warmed by one step, then best of {} x {} of 50 steps"


def seconds(action: Callable[[], Any], repeats: int = 3, warm_up: Callable[[], Any] | None = None) -> float:
    """The best of some runs after one to warm up (``action`` itself, unless something shorter warms as well)."""
    (warm_up or action)()
    times = []
    for _ in range(repeats):
        started = time.monotonic()
        action()
        times.append(time.monotonic() - started)
    return min(times)


def default_seconds(pipeline: Pipeline, data: bytes) -> float:
    """One default counterfactual, networks only (the judges included)."""
    spec = OperationSpec(operation="counterfactual", target={"EchoTime": 2.4}, options=Options(allow_synthetic=True))
    work = pipeline.prepare(spec, [data])
    return seconds(lambda: pipeline.run([work]))


def paper_seconds(steps: int, repeats: int) -> float:
    """One counterfactual as the authors run it: fp32, both branches, 50 steps, the whole attention matrix in memory.

    After a warm-up of one step, ``steps`` of the 50 are timed ``repeats`` times; the best is scaled up. Weights are
    random, which changes no time.
    """
    network = build_denoiser(replace(DENOISERS["paper"], flash_attention=False)).eval()
    width = DENOISERS["paper"].condition_width
    condition = Condition(
        torch.rand(2, width), torch.ones(2, len(DENOISERS["paper"].parameter_widths), dtype=torch.bool)
    )
    image = torch.rand(1, 1, 224, 224)

    @torch.inference_mode()
    def edit(start_t: int) -> None:
        paper_edit(lambda x, t, _: network(x, t, condition), image, seeds=[0], start_t=start_t)

    return seconds(lambda: edit(steps), repeats, warm_up=lambda: edit(1)) * PAPER_STEPS / steps


def processor() -> str:
    """The model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


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


def main(
    paper_steps: Annotated[int, typer.Option(min=1, max=PAPER_STEPS, help="of the paper's 50 steps, time so many")] = 4,
    paper_repeats: Annotated[int, typer.Option(min=1, help="runs of the paper's edit of which the best counts")] = 1,
    output: Path = Path("out/bench.json"),
) -> None:
    """Measure and print."""
    data = phantom_case({}).source_dicom
    pipeline = load_pipeline(BUNDLE)
    default, paper = default_seconds(pipeline, data), paper_seconds(paper_steps, paper_repeats)
    direct = in_process_rate(pipeline, data)
    with embedded() as served:
        through_http = served_rate(served, data)
        memory, ready = api_memory_mb(served), served.ready_s
    figures = {
        "cpu": processor(),
        "cpu_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "timing": TIMING.format(paper_repeats, paper_steps),
        "default_counterfactual_s": default,
        "paper_counterfactual_s": paper,
        "paper_steps_timed": paper_steps,
        "paper_over_default": paper / default,
        "predict_iap_in_process_per_s": direct,
        "predict_iap_http_per_s": through_http,
        "micro_batching_share": through_http / direct,
        "api_rss_mb_after_load": memory,
        "ready_s": ready,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(figures, indent=1))


if __name__ == "__main__":
    typer.run(main)

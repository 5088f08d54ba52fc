"""The whole pipeline and its stages on batches of several sizes: time, memory, work, and how near to the ceilings."""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import psutil
import torch

from examples.bench.machine import counted
from examples.bench.timing import interleaved
from reacquire.engine import Pipeline, Raw, Settings, Work
from reacquire.jobs.spec import OperationSpec, Options

TARGET = {"EchoTime": 2.4}


def batch_figures(pipeline: Pipeline, data: bytes, batch: int, repeats: int) -> dict[str, Any]:
    """Seconds per slice of each stage at one batch size, in rounds that hold every stage once."""
    work, raw = _ready(pipeline, data)
    works = [work] * batch
    actions: dict[str, Callable[[], Any]] = {
        "prepare": lambda: [_prepare(pipeline, data) for _ in range(batch)],
        "networks": lambda: pipeline.run(works),
        "finish": lambda: [pipeline.finish(work, raw) for _ in range(batch)],
        **_networks(pipeline, work, batch),
    }
    for action in actions.values():
        action()
    _reset_peak(pipeline.device)
    rounds = interleaved(list(actions.values()), repeats, device=pipeline.device)
    found = {name: median(column) / batch for name, column in zip(actions, zip(*rounds, strict=True), strict=True)}
    whole = median(sum(row[:3]) for row in rounds) / batch
    return {
        "whole_s": whole,
        "slices_per_s": 1 / whole,
        **{f"{k}_s": v for k, v in found.items()},
        **memory(pipeline.device),
    }


def work_figures(
    pipeline: Pipeline, data: bytes, batches: Mapping[int, Mapping[str, Any]], top: Mapping[str, float]
) -> dict[str, Any]:
    """FLOP and unfused bytes of one slice in each network, and its share of the ceilings in its quickest batch.

    The ceiling of products is the highest rate that was measured in any type: on a GPU that of bfloat16.
    """
    work, _ = _ready(pipeline, data)
    matrix = max(rate for name, rate in top.items() if name.startswith("matmul_"))
    found = {}
    for name, action in _networks(pipeline, work, 1).items():
        action()
        with counted() as count:
            action()
        spent, size = min((batch[f"{name}_s"], size) for size, batch in batches.items())
        found[name] = {
            **count,
            "batch": size,
            "share_of_matmul_rate": count["flop"] / spent / 1e9 / matrix,
            "share_of_copy_rate": count["bytes"] / spent / 1e9 / top["copy_gb_s"],
        }
    return found


def memory(device: str) -> dict[str, float]:
    """Resident memory of this process, and the peak on the device."""
    found = {"resident_mb": psutil.Process().memory_info().rss / 1e6}
    if device != "cpu":
        found["device_peak_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return found


def _reset_peak(device: str) -> None:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)


def _prepare(pipeline: Pipeline, data: bytes) -> Work:
    spec = OperationSpec(operation="counterfactual", target=TARGET, options=Options(allow_synthetic=True))
    return pipeline.prepare(spec, [data])


def _ready(pipeline: Pipeline, data: bytes) -> tuple[Work, Raw]:
    work = _prepare(pipeline, data)
    (raw,) = pipeline.run([work])
    assert isinstance(raw, Raw)
    return work, raw


def _networks(pipeline: Pipeline, work: Work, batch: int) -> dict[str, Callable[[], Any]]:
    """Each network on ``batch`` copies of the slice; the editor as its method runs it, noise included."""
    image = torch.from_numpy(work.images[0].values).expand(batch, 1, -1, -1).to(pipeline.device).contiguous()
    settings = Settings.of(Options(), pipeline.editor.setup)
    records = [dict(work.recognised)] * batch
    targets = [{**work.recognised, **TARGET}] * batch
    step = pipeline.slices_per_batch

    def edit() -> None:
        for at in range(0, batch, step):
            part = slice(at, at + step)
            seeds = list(range(batch))[part]
            pipeline.editor.edit(image[part], targets[part], seeds, settings, sources=records[part])

    return {
        "editor": edit,
        "predictor": lambda: [pipeline.predictor.outputs(part) for part in image.split(step)],
        "segmenter": lambda: [pipeline.segmenter.logits(part) for part in image.split(step)],
    }

"""``python -m tests.stub_worker [--without-core]``: the real worker and pipeline around networks that take no time.

What is left is reading, resampling, writing and moving (and, unless ``--without-core``, the measures of the result).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reacquire.engine import Outcome, Pipeline, Raw, Work, load_pipeline
from reacquire.iap import resolve_target
from reacquire.jobs.spec import OperationSpec


class Constant(nn.Module):
    """Answers zeros in the shape of a network's output."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, images: Tensor, *_: Any) -> Tensor:
        return torch.zeros(len(images), *(self.shape or (1, *images.shape[2:])))


def stub_pipeline(pipeline: Pipeline) -> Pipeline:
    """The pipeline with an editor that keeps the source, and judges that see nothing."""
    size = pipeline.preprocessing.size
    return replace(
        pipeline,
        predictor=replace(pipeline.predictor, network=Constant(pipeline.predictor.encoding.width)),
        segmenter=replace(pipeline.segmenter, network=Constant(3, size, size)),
        editor=replace(pipeline.editor, network=Constant(2, size, size)),
    )


@dataclass(frozen=True)
class WithoutCore:
    """A pipeline that reads and writes for real and keeps every slice as it is: no network, and no judge, runs."""

    pipeline: Pipeline

    def prepare(self, spec: OperationSpec, files: Sequence[bytes]) -> Work:
        return self.pipeline.prepare(spec, files)

    def run(self, works: Sequence[Work], on_step: Any = None) -> list[Raw]:
        if on_step is not None:
            on_step(1, 1)
        return [self._raw(work) for work in works]

    def finish(self, work: Work, raw: Raw) -> Outcome:
        return self.pipeline.finish(work, raw)

    def _raw(self, work: Work) -> Raw:
        predictor = self.pipeline.predictor
        prediction = predictor.read(torch.zeros(len(work.images), predictor.encoding.width))
        target = resolve_target(
            self.pipeline.vocabulary, target=work.spec.target, header=work.recognised, predicted=prediction.values
        )
        images = np.stack([image.values for image in work.images])
        return Raw(work.spec.operation, prediction, edited=images, target=target, prediction_after=prediction)


if __name__ == "__main__":
    from reacquire.jobs.logs import set_up
    from worker.app import serve
    from worker.settings import WorkerSettings

    settings = WorkerSettings()
    set_up("worker", settings.log_level)
    loaded = load_pipeline(settings.bundle)
    stub = WithoutCore(loaded) if "--without-core" in sys.argv else stub_pipeline(loaded)
    sys.exit(serve(settings, stub, bundle="stub"))

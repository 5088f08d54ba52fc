"""Pre, core and post of every operation: bytes -> slices -> tensors -> networks -> images -> bytes.

``prepare`` and ``finish`` run on the CPU and on one work; only ``run`` touches the networks, on many works at once.
Who calls it (a worker, the command line, an evaluation) makes no difference to the result.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import torch
from torch import Tensor

from reacquire.bundles.store import BundleInfo
from reacquire.dicom import SliceImage, order_series, read_slice
from reacquire.diffusion import OnStep, SliceSeed
from reacquire.engine.editor import Editor
from reacquire.engine.judges import CLASSES, Predictor, Segmenter
from reacquire.engine.method import Settings
from reacquire.engine.outcome import finish_counterfactual, finish_prediction, finish_segmentation
from reacquire.engine.samples import Moments, Pass, Variation, passes
from reacquire.engine.seeds import slice_seed
from reacquire.engine.work import Outcome, Raw, Work
from reacquire.errors import InputError, ReacquireError, TargetError
from reacquire.iap import Record, Value, Vocabulary, resolve_target, support_of
from reacquire.imaging import Preprocessing
from reacquire.jobs.spec import OperationSpec, Options
from reacquire.metrics import dice, ssim


def _nobody(done: int, total: int) -> Collection[int]:  # noqa: ARG001 (the signature of OnStep)
    return ()


@dataclass(frozen=True)
class Pipeline:
    """The networks of a bundle behind one door.

    ``slices_per_batch`` bounds the memory of one pass through the networks; ``uid_root`` is the site's own; targets
    with less support than ``least_support`` are refused.
    """

    bundle: BundleInfo
    vocabulary: Vocabulary
    preprocessing: Preprocessing
    predictor: Predictor
    segmenter: Segmenter
    editor: Editor
    device: str = "cpu"
    slices_per_batch: int = 16
    uid_root: str | None = None
    least_support: float = 0.0

    def warm(self) -> None:
        """Run every network once, so that the first request does not pay for lazy set-up."""
        size = self.preprocessing.size
        blank = torch.zeros(1, 1, size, size, device=self.device)
        self.predictor.outputs(blank)
        self.segmenter.logits(blank)
        self.editor.edit(blank, [{}], [0], Settings.of(Options(steps=1), self.editor.setup), sources=[{}])

    def prepare(self, spec: OperationSpec, files: Sequence[bytes]) -> Work:
        """Read, check and normalise the slices of one series.

        Raises
        ------
        ReacquireError
            With the code of the first thing that is wrong.
        """
        if not files:
            raise InputError("at least one DICOM file is needed")
        if spec.operation == "counterfactual":
            self._check_seen(self.vocabulary.validate(spec.target))
            self.editor.check(spec.options)
        read = [read_slice(data, allow_synthetic=spec.options.allow_synthetic) for data in files]
        slices = [read[i] for i in order_series([slice_.header for slice_ in read])]
        images = tuple(self.preprocessing.forward(slice_.canonical()) for slice_ in slices)
        evaluations = self.editor.evaluations(spec.options) if spec.operation == "counterfactual" else 1
        return Work(spec, tuple(slices), images, self._recognise(slices), evaluations)

    def run(self, works: Sequence[Work], on_step: OnStep | None = None) -> list[Raw | ReacquireError | None]:
        """Run works of one batch key through the networks.

        Parameters
        ----------
        works : all with the same ``batch_key``
        on_step : told (steps done, steps in all); answers the indices of works to drop from here on

        Returns
        -------
        One entry per work: its result, its own error, or None when it was dropped.
        """
        on_step = on_step or _nobody
        owners = [i for i, work in enumerate(works) for _ in work.images]
        pixels = torch.from_numpy(np.stack([image.values for work in works for image in work.images]))[:, None]
        pixels = pixels.to(self.device)
        spans = [slice(a, b) for a, b in pairwise(np.cumsum([0, *(len(w.images) for w in works)]).tolist())]
        operation = works[0].spec.operation
        outputs = None if operation == "segment" else self._chunked(self.predictor.outputs, pixels)
        logits = None if operation == "predict-iap" else self._chunked(self.segmenter.logits, pixels)
        raws: list[Raw | ReacquireError | None] = []
        for work, span in zip(works, spans, strict=True):
            try:
                raws.append(self._judged(work, span, outputs, logits))
            except ReacquireError as error:
                raws.append(error)
        if operation == "counterfactual":
            return self._edit(works, raws, pixels, owners, on_step)
        on_step(1, 1)
        return raws

    def finish(self, work: Work, raw: Raw) -> Outcome:
        """Native-grid images, DICOM objects and the document of one work."""
        root = self.uid_root
        if raw.operation == "counterfactual":
            return finish_counterfactual(work, raw, self.bundle, self.preprocessing, uid_root=root)
        if raw.operation == "segment":
            return finish_segmentation(work, raw, self.bundle, self.preprocessing, uid_root=root)
        return finish_prediction(work, raw, self.bundle, self.vocabulary, uid_root=root)

    def _check_seen(self, target: Record) -> None:
        """Refuse categories that the weights were never shown: their conditioning would be noise."""
        for keyword, value in target.items():
            if value in self.bundle.unseen.get(keyword, ()):
                raise TargetError(f"{self.bundle.name} was never shown this {keyword}; see /v1/models", where=keyword)

    def _recognise(self, slices: Sequence[SliceImage]) -> dict[str, Value]:
        """The header values that all slices share, the vocabulary holds and the weights have seen."""
        first, *others = [self.vocabulary.recognise(slice_.iap) for slice_ in slices]
        return {
            k: v
            for k, v in first.items()
            if all(other.get(k) == v for other in others) and v not in self.bundle.unseen.get(k, ())
        }

    def _judged(self, work: Work, span: slice, outputs: Tensor | None, logits: Tensor | None) -> Raw:
        raw = Raw(work.spec.operation)
        if logits is not None:
            raw = replace(raw, logits=logits[span].numpy())
        if outputs is not None:
            each = tuple(self.predictor.read(row[None]) for row in outputs[span])
            raw = replace(raw, prediction=self.predictor.read(outputs[span]), predictions=each)
        if raw.operation == "counterfactual":
            seen = {"header": work.recognised, "predicted": raw.prediction.values if raw.prediction else {}}
            target = resolve_target(self.vocabulary, target=work.spec.target, **seen)
            source = resolve_target(self.vocabulary, target={}, **seen)
            support = support_of(target.values, self.bundle.manifest.trained_on, self.vocabulary)
            if support is not None and support.score < self.least_support:
                raise TargetError("; ".join(support.notes), code="target-unsupported", where="/target")
            raw = replace(raw, target=target, source=source, support=support)
        return raw

    def _edit(
        self,
        works: Sequence[Work],
        raws: list[Raw | ReacquireError | None],
        pixels: Tensor,
        owners: list[int],
        on_step: OnStep,
    ) -> list[Raw | ReacquireError | None]:
        """Edit the slices of all sound works, chunk by chunk, and let the judges look at the results."""
        alive = {i: raw for i, raw in enumerate(raws) if isinstance(raw, Raw)}
        items = [k for k, owner in enumerate(owners) if owner in alive]
        slices = [slice_ for work in works for slice_ in work.slices]
        options = works[0].spec.options
        plan = passes(Settings.of(options, self.editor.setup), options.samples)
        edited, moments = (
            torch.full_like(pixels, torch.nan),
            Moments.like(pixels if options.samples > 1 else pixels[:0]),
        )
        dropped: set[int] = set()
        chunks = [items[i : i + self.slices_per_batch] for i in range(0, len(items), self.slices_per_batch)]
        steps = [run.settings.steps for run in plan for _ in chunks]
        for number, (run, chunk) in enumerate(product(plan, chunks)):
            chunk = [k for k in chunk if owners[k] not in dropped]
            if not chunk:
                continue

            def step(done: int, _: int, chunk: list[int] = chunk, before: int = sum(steps[:number])) -> list[int]:
                dropped.update(on_step(before + done, sum(steps)) or ())
                return [i for i, k in enumerate(chunk) if owners[k] in dropped]

            jobs = [(alive[owners[k]], works[owners[k]].spec.options.seed) for k in chunk]
            seeds = [slice_seed(seed, slices[k], run.sample) for k, (_, seed) in zip(chunk, jobs, strict=True)]
            result = self._one_pass(run, pixels[chunk], jobs, seeds, step)
            if run is plan[0]:
                edited[chunk] = result
            if run.counted:
                moments.add(chunk, result)
        spans = [[k for k, owner in enumerate(owners) if owner == i] for i in range(len(works))]
        return [
            None if i in dropped else self._compared(raw, plan[0].settings, pixels, edited, moments, span)
            for i, (raw, span) in enumerate(zip(raws, spans, strict=True))
        ]

    def _one_pass(
        self, run: Pass, pixels: Tensor, jobs: Sequence[tuple[Raw, int]], seeds: Sequence[SliceSeed], step: OnStep
    ) -> Tensor:
        """(B, 1, S, S): the slices under their targets, as the sample of this pass sees them; one raw and seed each."""
        ends = [(raw.source, raw.target) for raw, _ in jobs]
        variations = [
            Variation.of(self.editor.setup, seed, run.sample, source)  # type: ignore[arg-type]  # set by _judged
            for (source, _), (_, seed) in zip(ends, jobs, strict=True)
        ]
        seen = torch.stack([v.apply(image) for v, image in zip(variations, pixels, strict=True)])
        sources = [v.known(source.values) for v, (source, _) in zip(variations, ends, strict=True)]  # type: ignore[union-attr]
        targets = [target.values for _, target in ends]  # type: ignore[union-attr]
        edited = self.editor.edit(seen, targets, seeds, run.settings, step, sources=sources)
        return torch.stack([v.undo(image) for v, image in zip(variations, edited, strict=True)])

    def _compared(
        self,
        raw: Raw | ReacquireError | None,
        settings: Settings,
        pixels: Tensor,
        edited: Tensor,
        moments: Moments,
        items: list[int],
    ) -> Raw | ReacquireError | None:
        """``raw`` with its edited slices and what the judges say of them."""
        if not isinstance(raw, Raw) or raw.logits is None:
            return raw
        after = edited[items]
        labels = self._chunked(self.segmenter.logits, after).argmax(1)
        if len(moments.mean):
            mean, spread = (part[:, 0].cpu().numpy() for part in (moments.mean[items], moments.spread(items)))
            raw = replace(raw, mean=mean, spread=spread)
        scores = dice(labels, torch.from_numpy(raw.logits).argmax(1), classes=len(CLASSES))
        return replace(
            raw,
            edited=after[:, 0].cpu().numpy(),
            settings=settings.record(self.editor.setup),
            prediction_after=self.predictor.read(self._chunked(self.predictor.outputs, after)),
            ssim=tuple(ssim(after, pixels[items]).tolist()),
            anatomy_dice={
                name: None if score.isnan() else float(score)
                for name, score in zip(CLASSES[1:], scores[1:], strict=True)
            },
        )

    def _chunked(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        return torch.cat([function(part).cpu() for part in images.split(self.slices_per_batch)])

"""Figures of one method on held-out pairs, pair by pair; statistics over women are made of them elsewhere.

A figure's name says its kind: plain ones are averaged over women, ``x_part`` and ``x_whole`` are summed and divided
(ratios of sums, in which pairs that hardly differ have little say).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reacquire.engine import Predictor, Segmenter
from reacquire.iap import Categorical, Record
from reacquire.metrics import dice, gap_closed, mean_inside, ssim
from training.pareto.pairs import TISSUES, HeldOut

CUT = 8.0  # cycles per field of view: what is coarser counts as the low band, tissue by tissue contrast among it
Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Judges:
    """Networks of the resolution of the pairs that no candidate was trained with."""

    predictor: Predictor
    segmenter: Segmenter

    def read(self, images: Tensor) -> tuple[Record, ...]:
        """The parameters that each of (N, 1, S, S) shows."""
        return tuple(self.predictor.read(output[None]).values for output in self.predictor.outputs(images))

    def breast_dice(self, images: Tensor, truth: Tensor) -> Tensor:
        """Mean Dice of the two tissues per image (N,), a tissue that neither holds left out."""
        labels = self.segmenter.logits(images).argmax(1, keepdim=True).cpu()
        return torch.stack([dice(a, b, classes=3)[1:].nanmean() for a, b in zip(labels, truth, strict=True)])


@dataclass(frozen=True, eq=False)
class Reference:
    """What the judges say of the pairs themselves, which is the same for every candidate."""

    pairs: HeldOut
    judges: Judges

    @cached_property
    def breast(self) -> Tensor:
        return (self.pairs.tissues == 1) | (self.pairs.tissues == 2)

    @cached_property
    def source_read(self) -> tuple[Record, ...]:
        return self.judges.read(self.pairs.source)

    @cached_property
    def target_read(self) -> tuple[Record, ...]:
        return self.judges.read(self.pairs.target)

    @cached_property
    def target_dice(self) -> Tensor:
        return self.judges.breast_dice(self.pairs.target, self.pairs.tissues * self.breast)


def measure(reference: Reference, edited: Tensor) -> Figures:
    """Figures of counterfactuals ``edited`` (N, 1, S, S), N values each."""
    pairs, breast = reference.pairs, reference.breast
    score = reference.judges.breast_dice(edited, pairs.tissues * breast)
    figures = {
        "gap_closed": gap_closed(edited, pairs.truth, pairs.source, breast),
        **_gap("gap", reference, edited),
        "ssim_to_target": ssim(edited, pairs.target),
        "change": mean_inside((edited - pairs.source).abs(), breast),
        "dice": score,
        "dice_minus_true_target": score - reference.target_dice,
        **contrast(pairs, edited),
    }
    return {name: values.tolist() for name, values in figures.items()} | effectiveness(reference, edited)


def composition(reference: Reference, same: Tensor) -> Figures:
    """How far the edits ``same`` to the source's own parameters lie from the source, and the noise of one slice."""
    pairs, breast = reference.pairs, reference.breast
    return {
        "composition": mean_inside((same - pairs.source).abs(), breast).tolist(),
        "noise_of_a_slice": mean_inside((pairs.target - pairs.truth).abs(), breast).tolist(),
    }


def band_swap(reference: Reference, edited: Tensor) -> Figures:
    """Which band of the change does the work: the source with only the coarse, or only the fine part of it."""
    change = edited - reference.pairs.source
    figures: Figures = {}
    for name, part in (("coarse", low_band(change)), ("fine", change - low_band(change))):
        image = reference.pairs.source + part
        seen = effectiveness(reference, image)
        figures |= {k.replace("effect", f"{name}_effect"): v for k, v in seen.items() if "categories" in k}
        figures |= {k: v.tolist() for k, v in _gap(f"{name}_gap", reference, image).items()}
    return figures


def _gap(name: str, reference: Reference, edited: Tensor) -> dict[str, Tensor]:
    before, after = ((image - reference.pairs.truth).abs() for image in (reference.pairs.source, edited))
    whole = mean_inside(before, reference.breast)
    return {f"{name}_part": whole - mean_inside(after, reference.breast), f"{name}_whole": whole}


def contrast(pairs: HeldOut, edited: Tensor) -> dict[str, Tensor]:
    """Terms of the contrast-transfer ratio of each tissue: achieved times true change of its mean, and true squared.

    The ratio of their sums is ``reacquire.metrics.contrast_transfer``.
    """
    terms = {}
    for number, name in enumerate(TISSUES[1:], start=1):
        mask = pairs.tissues == number
        before, after, truth = (mean_inside(image, mask) for image in (pairs.source, edited, pairs.truth))
        terms[f"contrast_{name}_part"] = (after - before) * (truth - before)
        terms[f"contrast_{name}_whole"] = (truth - before) ** 2
    return terms


def effectiveness(reference: Reference, edited: Tensor) -> Figures:
    """What the predictor sees of the parameters that a pair changed, corrected for what it sees without any edit.

    Categories: (right on the edit - right on the source) over (right on the true target - right on the source), the
    differences summed over the changed categories of a pair. Numbers: the same with errors in units of the parameter's
    spread, the signs turned. 0 is doing nothing, 1 as good as a real acquisition.
    """
    pairs, seen_in = reference.pairs, {"source": reference.source_read, "target": reference.target_read}
    seen_in["edit"] = reference.judges.read(edited)
    figures: Figures = {
        f"effect_{kind}_{side}": [0.0] * len(pairs) for kind in ("categories", "numbers") for side in ("part", "whole")
    }
    for parameter in reference.judges.predictor.encoding.vocabulary.parameters:
        keyword, named = parameter.keyword, isinstance(parameter, Categorical)
        kind = "categories" if named else "numbers"
        scale = 1.0 if named else _spread(pairs, keyword)
        for i, (before, after) in enumerate(zip(pairs.source_iap, pairs.target_iap, strict=True)):
            if before.get(keyword) == after.get(keyword):
                continue
            good = {
                name: _merit(records[i][keyword], after[keyword], named, scale) for name, records in seen_in.items()
            }
            figures[f"effect_{kind}_part"][i] += good["edit"] - good["source"]
            figures[f"effect_{kind}_whole"][i] += good["target"] - good["source"]
    return figures


def _merit(seen: object, wanted: object, named: bool, scale: float) -> float:
    return float(seen == wanted) if named else -abs(float(seen) - float(wanted)) / scale  # type: ignore[arg-type]


def _spread(pairs: HeldOut, keyword: str) -> float:
    values = torch.tensor([float(record[keyword]) for record in pairs.target_iap])
    return float(values.std()) or 1.0


def low_band(images: Tensor) -> Tensor:
    """(N, 1, S, S) without what is finer than ``CUT`` cycles per field of view; a Gaussian edge, so nothing rings."""
    size = images.shape[-1]
    frequency = torch.fft.fftfreq(size) * size
    distance = frequency[:, None] ** 2 + frequency[None, : size // 2 + 1] ** 2
    spectrum = torch.fft.rfft2(images) * torch.exp(-distance / (2 * CUT**2))
    return torch.fft.irfft2(spectrum, s=(size, size))

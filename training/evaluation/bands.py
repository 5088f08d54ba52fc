"""Band-swap: does the predictor read the broad part of an edit (contrast, shading) or the fine one (texture)?"""

import torch
from torch import Tensor

from reacquire.iap import Categorical
from training.evaluation.bench import Bench, changed, per_woman
from training.evaluation.document import Cell, Figure, Figures, Section, Table
from training.evaluation.effectiveness import judged
from training.evaluation.readings import readable
from training.statistics import pooled_ratio

CUT = 0.08  # cycles per pixel at which the Gaussian low-pass falls to exp(-1/2): structures of about 12 pixels


def low_pass(images: Tensor, cut: float = CUT) -> Tensor:
    """(B, 1, S, S) images under a Gaussian low-pass in k-space."""
    fy, fx = (torch.fft.fftfreq(n) for n in images.shape[-2:])
    gain = torch.exp(-(fy[:, None] ** 2 + fx[None, :] ** 2) / (2 * cut**2))
    return torch.fft.ifft2(torch.fft.fft2(images) * gain).real


def bands(bench: Bench) -> Section:
    """Share of changed categories that the predictor sees in mixtures of source and counterfactual."""
    pairs, source, edited = bench.asked, bench.sources(bench.asked), bench.edited
    broad_source, broad_edited = low_pass(source), low_pass(edited)
    mixtures = {
        "source": source,
        "broad_part_of_edit": broad_edited + source - broad_source,
        "fine_part_of_edit": broad_source + edited - broad_edited,
        "counterfactual": edited,
    }
    seen = {name: judged(bench, images) for name, images in mixtures.items()}
    figures: Figures = {}
    rows: list[tuple[Cell, ...]] = []
    for parameter in readable(bench.pipeline.predictor):
        key = parameter.keyword
        where = [i for i, pair in enumerate(pairs) if changed(pair, key)]
        if not isinstance(parameter, Categorical) or not where:
            continue
        chosen = [pairs[i] for i in where]
        ones = per_woman(chosen, [1.0] * len(where))
        for name, readings in seen.items():
            hits = [float(readings.values[i][key] == pairs[i].target.iap[key]) for i in where]
            figures[f"{name}_{key}"] = Figure(pooled_ratio(per_woman(chosen, hits), ones), "editor")
        rows.append((key, *(figures[f"{name}_{key}"] for name in seen)))
    columns = (
        "changed parameter",
        "source",
        "source with the edit's broad part",
        "source with the edit's fine part",
        "whole edit",
    )
    return Section(
        name="bands",
        title="Band-swap: where does the predictor look?",
        question="Is it contrast that convinces the predictor, or fine texture such as noise?",
        method=f"Low frequencies (Gaussian, {CUT} cycles per pixel) of the edit and the source are exchanged, and the "
        "predictor looks again. Share of slices in which it names the new category, where the category changes.",
        caveats=("A mixture of two images is no image that a scanner makes; the predictor was never shown one.",),
        figures={"bands": figures},
        tables=(Table("Share of slices in which the predictor names the target", columns, tuple(rows)),),
    )

"""Whether an edited series is one volume: through-plane statistics of simulated women, and coronal reformats of one.

Writes out/volume/volume.json and out/volume/volume.png (``python -m examples.volume``). Compares noise drawn slice by
slice with the noise of the volume, and normalisation by slice with normalisation by series.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from reacquire.diffusion import Seed, SliceSeed
from reacquire.engine import Pipeline, Settings, load_pipeline
from reacquire.engine.preview import grey, png
from reacquire.iap import Record
from reacquire.imaging import ModelImage
from reacquire.jobs.spec import Options
from reacquire.metrics import flicker, gap_closed, neighbour_correlation, through_plane_ratio
from reacquire.phantom import make_subject, same_site, sample_protocol, sample_scanner, simulate_slice

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "phantom-v1"
FIRST_WOMAN = 990_000  # no training cohort draws these
PAIRS = (("G1", "S1"), ("G2", "S2"), ("S1", "G2"), ("S2", "G1"))


@dataclass(frozen=True, eq=False)
class Volume:
    """Neighbouring slices of one woman: ``source`` with noise and ``truth`` without, native; ``breast`` at model size.

    ``before`` and ``after`` are their parameters.
    """

    source: list[NDArray[Any]]
    truth: list[NDArray[Any]]
    breast: Tensor
    before: Record
    after: Record


def simulate(pipeline: Pipeline, woman: int, protocols: tuple[str, str], count: int) -> Volume:
    """``count`` adjacent slices around the middle of the breasts, under two protocols of one site."""
    rng, subject = np.random.default_rng([woman, 0x701]), make_subject(FIRST_WOMAN + woman)
    before = sample_protocol(rng, protocol_id=protocols[0])
    scanner = sample_scanner(rng, before)
    drawn = sample_protocol(rng, protocol_id=protocols[1])
    after = replace(drawn, fov_mm=before.fov_mm, chest_fraction=before.chest_fraction, rows=before.rows)
    other = same_site(scanner, before, after, rng)
    heights = float(np.mean(subject.z_range)) + before.thickness_mm * (np.arange(count) - count / 2)
    sources = [simulate_slice(subject, float(z), before, scanner, noise_seed=i) for i, z in enumerate(heights)]
    truths = [simulate_slice(subject, float(z), after, other, noise_seed=None) for z in heights]
    breast = np.stack([pipeline.preprocessing.forward_labels(s.labels) > 0 for s in sources])
    return Volume(
        [s.image for s in sources], [t.clean for t in truths], torch.from_numpy(breast)[:, None], before.iap, after.iap
    )


def edited(pipeline: Pipeline, volume: Volume, images: list[ModelImage], seeds: list[Seed], *, noise: bool) -> Tensor:
    """(Z, 1, S, S) on the common scale of ``images[0]``'s units: native change put back on the source."""
    settings = Settings.of(Options(noise=noise), pipeline.editor.setup)
    values = torch.from_numpy(np.stack([image.values for image in images]))[:, None]
    parts = []
    for at in range(0, len(seeds), 4):
        part, own = values[at : at + 4], seeds[at : at + 4]
        many = len(own)
        parts.append(pipeline.editor.edit(part, [volume.after] * many, own, settings, sources=[volume.before] * many))
    spans = torch.tensor([[image.low, image.high] for image in images])[:, :, None, None]
    return torch.cat(parts) * (spans[:, 1:] - spans[:, :1]) + spans[:, :1]


def figures(pipeline: Pipeline, volume: Volume) -> tuple[dict[str, float], list[Tensor]]:
    """The measures of one woman, and volumes for the picture: source, noise by slice, noise of the volume, truth."""
    preprocessing = pipeline.preprocessing
    by_slice = [preprocessing.forward(image) for image in volume.source]
    whole, truth = (preprocessing.forward(np.concatenate(v)) for v in (volume.source, volume.truth))
    by_series = [ModelImage(preprocessing.on_scale_of(v, whole), whole.low, whole.high) for v in volume.source]
    target = torch.from_numpy(np.stack([preprocessing.on_scale_of(v, truth) for v in volume.truth]))[:, None]
    count = len(volume.source)
    alone: list[Seed] = list(range(count))
    shared: list[Seed] = [SliceSeed(1, float(i)) for i in range(count)]

    def run(images: list[ModelImage], seeds: list[Seed], *, noise: bool) -> Tensor:
        return (edited(pipeline, volume, images, seeds, noise=noise) - whole.low) / (whole.high - whole.low)

    clean, series = run(by_slice, alone, noise=False), run(by_series, alone, noise=False)
    before, after = run(by_slice, alone, noise=True), run(by_slice, shared, noise=True)
    source = torch.from_numpy(np.stack([image.values for image in by_series]))[:, None]
    mask = volume.breast
    found = {
        "flicker: source": flicker(source, target, mask),
        "flicker: normalised by slice": flicker(clean, target, mask),
        "flicker: normalised by series": flicker(series, target, mask),
        "gap closed: normalised by slice": gap_closed(clean, target, source, mask).mean(),
        "gap closed: normalised by series": gap_closed(series, target, source, mask).mean(),
        "roughness: source": through_plane_ratio(source, target, mask),
        "roughness: no noise": through_plane_ratio(clean, target, mask),
        "roughness: noise by slice": through_plane_ratio(before, target, mask),
        "roughness: noise of the volume": through_plane_ratio(after, target, mask),
        "correlation: noise by slice": neighbour_correlation(before - clean, mask),
        "correlation: noise of the volume": neighbour_correlation(after - clean, mask),
    }
    return {name: round(float(value), 4) for name, value in found.items()}, [source, before, after, target]


def coronal(volumes: list[Tensor], rows: int = 6) -> bytes:
    """One coronal plane of each volume below the other, feet down, slices made ``rows`` pixels high."""
    planes = [v[:, 0, v.shape[2] // 3].flip(0).numpy().repeat(rows, axis=0) for v in volumes]
    gap = np.full((4, planes[0].shape[1] * 3, 3), 255, np.uint8)
    pictures = [grey(plane.repeat(3, axis=1), (0.0, 1.1)) for plane in planes]
    return png(np.concatenate([part for picture in pictures for part in (picture, gap)][:-1]))


def main(
    slices: Annotated[int, typer.Option(min=2, help="per woman")] = 16,
    output: Path = Path("out/volume"),
    bundle: Path = BUNDLE,
) -> None:
    """Measure and draw."""
    pipeline = load_pipeline(bundle)
    output.mkdir(parents=True, exist_ok=True)
    table = {}
    for woman, protocols in enumerate(PAIRS):
        volume = simulate(pipeline, woman, protocols, slices)
        found, volumes = figures(pipeline, volume)
        table[f"woman {woman}: {' to '.join(protocols)}"] = found
        if woman == 0:
            (output / "volume.png").write_bytes(coronal(volumes))
    text = json.dumps({"slices": slices, "bundle": pipeline.bundle.sha256, "women": table}, indent=1)
    (output / "volume.json").write_text(text + "\n", encoding="utf-8")
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)

"""Pictures of the phantom: every protocol, women, the levels of truth, and simulated slices beside real ones.

Pictures that show real slices go to ``out/``, never into the repository.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reacquire.phantom import (
    DUKE_PROTOCOLS,
    Subject,
    make_pair,
    make_subject,
    sample_protocol,
    sample_scanner,
    simulate_slice,
)

ROOT = Path(__file__).resolve().parents[1]
FIGURES, OUT = ROOT / "docs" / "figures", ROOT / "out" / "phantom"
REAL = ROOT.parent / "shared" / "data" / "real-breast-mr" / "aera-axial"


def slice_position(subject: Subject, rng: np.random.Generator) -> float:
    """A slice (mm) well inside both breasts."""
    low, high = subject.z_range
    return float(rng.uniform(low + 0.15 * (high - low), high - 0.15 * (high - low)))


def _show(axis: object, image: NDArray, title: str, top: float = 1.25) -> None:
    axis.imshow(image / max(np.percentile(image, 99), 1e-6), cmap="gray", vmin=0, vmax=top)  # type: ignore[attr-defined]
    axis.set_title(title, fontsize=8)  # type: ignore[attr-defined]
    axis.axis("off")  # type: ignore[attr-defined]


def figures() -> None:
    """Draw every protocol on one woman, the three levels of truth, eight women, and simulated beside real slices."""
    import matplotlib

    matplotlib.use("Agg")
    FIGURES.mkdir(parents=True, exist_ok=True)
    OUT.mkdir(parents=True, exist_ok=True)
    subject = make_subject(12, density=0.2)
    z_mm = float(np.mean(subject.z_range))
    _draw_protocols(subject, z_mm)
    _draw_truth(subject, z_mm)
    _draw_women()
    if REAL.is_dir():
        _draw_beside_real()


def _draw_protocols(subject: Subject, z_mm: float) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 4, figsize=(10, 7.8))
    for axis, protocol_id in zip(axes.flat, DUKE_PROTOCOLS, strict=False):
        rng = np.random.default_rng([1, sum(protocol_id.encode())])
        protocol = replace(sample_protocol(rng, protocol_id=protocol_id), fov_mm=345.0, chest_fraction=0.57)
        simulated = simulate_slice(subject, z_mm, protocol, sample_scanner(rng, protocol), noise_seed=1)
        iap = protocol.iap
        _show(axis, simulated.image, f"{protocol_id}  {iap['ManufacturerModelName']}  {protocol.field_t:g} T")
    axes.flat[-1].imshow(simulated.labels, cmap="viridis")
    axes.flat[-1].set_title("labels: 1 breast, 2 fibroglandular", fontsize=8)
    axes.flat[-1].axis("off")
    _save(figure, FIGURES / "phantom-protocols.png", 75)


def _draw_truth(subject: Subject, z_mm: float) -> None:
    from matplotlib import pyplot

    rng = np.random.default_rng(4)
    scans = []
    for protocol_id in ("S1", "G3"):
        protocol = sample_protocol(rng, protocol_id=protocol_id)
        scans.append((protocol, sample_scanner(rng, protocol)))
    pair = make_pair(subject, z_mm, scans[0], scans[1], seed=1, contrast=True)
    assert pair.contrast is not None
    figure, axes = pyplot.subplots(1, 4, figsize=(10, 2.9))
    _show(axes[0], pair.source.image, "source (Avanto 1.5 T)")
    _show(axes[1], pair.contrast, "L0: contrast only")
    _show(axes[2], pair.target.clean, "L1: with reconstruction")
    _show(axes[3], pair.target.image, "L2: with noise (HDx 3 T)")
    _save(figure, FIGURES / "phantom-truth.png", 75)


def _draw_women() -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 4, figsize=(10, 5.3))
    for number, axis in enumerate(axes.flat):
        subject = make_subject(300 + number)
        rng = np.random.default_rng([number, 8])
        protocol = sample_protocol(rng)
        simulated = simulate_slice(
            subject, slice_position(subject, rng), protocol, sample_scanner(rng, protocol), noise_seed=1
        )
        _show(axis, simulated.image, f"gland {subject.fgt_fraction:.0%}, {protocol.protocol_id}")
    _save(figure, FIGURES / "phantom-women.png", 75)


def _draw_beside_real() -> None:
    import pydicom
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 5, figsize=(15, 9.4))
    files = sorted(REAL.glob("*.dcm"))
    for axis, path in zip(axes[0], files[2::8], strict=False):
        _show(axis, pydicom.dcmread(path).pixel_array.astype(float), "real (Aera 1.5 T)")
    for axis, number in zip(axes[1:].flat, range(10), strict=False):
        subject = make_subject(500 + number)
        rng = np.random.default_rng([number, 9])
        protocol = sample_protocol(rng, protocol_id=("S2", "S1", "S3", "G3", "G6")[number % 5])
        simulated = simulate_slice(
            subject, slice_position(subject, rng), protocol, sample_scanner(rng, protocol), noise_seed=1
        )
        _show(axis, simulated.image, f"simulated {protocol.protocol_id}")
    _save(figure, OUT / "beside-real.png", 80)


def _save(figure: object, path: Path, dpi: int) -> None:
    figure.tight_layout(pad=0.4, h_pad=1.2)  # type: ignore[attr-defined]
    figure.savefig(path, dpi=dpi)  # type: ignore[attr-defined]
    sys.stderr.write(f"wrote {path.relative_to(ROOT)}\n")

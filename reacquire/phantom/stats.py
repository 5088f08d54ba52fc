"""Statistics of simulated women and slices, as they were measured on real ones: what the phantom is judged by.

Anatomy statistics follow the definitions used on 55 real label maps (~1 mm, prone); image statistics those used on real
slices. What real data measured lives in ``bands``.
"""

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from reacquire.phantom.pair import Simulated
from reacquire.phantom.subject import Subject
from reacquire.physics import tissue


def anatomy_statistics(subject: Subject) -> dict[str, float]:
    """The anatomy statistics of one woman by the names of ``ANATOMY_BANDS``."""
    depth = mound_depth(subject)
    deepest = depth.max(axis=1)
    planes = deepest > 0.5 * deepest.max()
    inside = subject.breast & planes[:, None, None]
    gland, fat, transition = _classes(subject, inside)
    shares = (gland.sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1))[planes]
    widths = [_half_width(depth[:, half]) for half in _halves(subject)]
    return {
        "mound depth": float(deepest.max()),
        "superior-inferior extent": float(planes.sum()),
        "width at half depth": float(np.mean(widths)),
        "mound volume, both": float(depth.sum() / 1000),
        "gland share": float(gland.sum() / (gland | fat | transition).sum()),
        "transition share": float(transition.sum() / (gland | fat | transition).sum()),
        "gland share, p90 slice": float(np.percentile(shares, 90)),
        "mask spectrum exponent": mask_exponent(gland),
        "autocorrelation half-width": autocorrelation_half_width(gland, inside),
    }


def mound_depth(subject: Subject) -> NDArray[np.float32]:
    """Depth (Z, X) in mm of breast tissue before the sternal skin (y = 0)."""
    front = subject.origin_mm[1] + np.where(subject.breast.any(axis=1), subject.breast.argmax(axis=1), 9999)
    return np.maximum(-front, 0).astype(np.float32)


def _halves(subject: Subject) -> tuple[slice, slice]:
    middle = round(-subject.origin_mm[2])
    return slice(0, middle), slice(middle, None)


def _half_width(depth: NDArray[np.float32]) -> float:
    """Width in mm at half of the depth in the plane of the deepest point."""
    row = depth[int(depth.max(axis=1).argmax())]
    return float((row > row.max() / 2).sum())


def _classes(subject: Subject, inside: NDArray[np.bool_]) -> tuple[NDArray, NDArray, NDArray]:
    """Gland, fat and transition voxels; skin, vessels and lesions belong to none of them."""
    tissue_voxels = inside & ((subject.labels == tissue.FAT) | (subject.labels == tissue.FGT))
    low, high = subject.fgt <= 70, subject.fgt >= 185
    return tissue_voxels & high, tissue_voxels & low, tissue_voxels & ~low & ~high


def mask_exponent(gland: NDArray[np.bool_], size: int = 48) -> float:
    """Power-law exponent of the gland mask's 2-D spectrum over patches of ``size`` mm that hold 10 to 60 % gland."""
    window = np.outer(np.hanning(size), np.hanning(size))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    total = np.zeros((size, size))
    for plane in gland[:: max(1, gland.shape[0] // 24)]:
        for patch in _patches(plane, size):
            if 0.1 < patch.mean() < 0.6:
                total += np.abs(np.fft.fft2((patch - patch.mean()) * window)) ** 2
    band = (frequency > 2.5 / size) & (frequency < 0.4)
    if not total.any():
        return float("nan")
    return float(-np.polyfit(np.log(frequency[band]), np.log(total[band] + 1e-12), 1)[0])


def _patches(plane: NDArray[np.bool_], size: int) -> list[NDArray[np.float64]]:
    rows, columns = (range(0, n - size + 1, size // 2) for n in plane.shape)
    return [plane[r : r + size, c : c + size].astype(float) for r in rows for c in columns]


def autocorrelation_half_width(gland: NDArray[np.bool_], inside: NDArray[np.bool_], reach: int = 12) -> float:
    """Lag in mm along left-right at which the gland mask's autocovariance falls to half."""
    planes = np.flatnonzero(inside.any(axis=(1, 2)))[::4]
    gland, inside = gland[planes], inside[planes]
    mean = gland[inside].mean()
    centred = np.where(inside, gland - mean, 0.0).astype(np.float32)
    curve = []
    for lag in range(reach):
        both = inside[..., : inside.shape[2] - lag] & inside[..., lag:]
        product = centred[..., : centred.shape[2] - lag] * centred[..., lag:]
        curve.append(float(product.sum() / max(both.sum(), 1)))
    curve_array = np.array(curve) / curve[0]
    below = int(np.argmax(curve_array < 0.5)) or reach - 1
    high, low = curve_array[below - 1], curve_array[below]
    return float(below - 1 + (high - 0.5) / (high - low))


def image_statistics(simulated: Simulated) -> dict[str, float]:
    """The image statistics of one slice by the names of ``IMAGE_BANDS``, and fat over gland."""
    image = simulated.image.astype(np.float64)
    p10, p50, p75, p90, p99, p999 = np.percentile(image, [10, 50, 75, 90, 99, 99.9])
    front = int(np.argmax(simulated.breast.any(axis=1)))
    air = image[4 : max(front - 12, 8)]
    result = {
        "p10 / p99": p10 / p99,
        "p50 / p99": p50 / p99,
        "p75 / p99": p75 / p99,
        "p90 / p99": p90 / p99,
        "p99.9 / p99": p999 / p99,
        "mean / p99": image.mean() / p99,
        "SD / p99": image.std() / p99,
        "body share of pixels": float((image > 0.06 * p99).mean()),
        "anterior air SD / p99": air.std() / p99,
        "air mean / p99": air.mean() / p99,
        "p99": p99,
    }
    fat, gland = (simulated.clean[simulated.labels == k] for k in (1, 2))
    if fat.size and gland.size:
        result["fat / gland"] = float(np.median(fat) / np.median(gland))
        noise = (simulated.image - simulated.clean)[simulated.labels == 2]
        result["gland SNR"] = float(np.median(gland) / max(noise.std(), 1e-6))
    return {name: float(value) for name, value in result.items()}


def texture_statistics(simulated: Simulated, subject: Subject) -> dict[str, float]:
    """Texture and shading of one slice by the names of ``TEXTURE_BANDS``; NaN where no patch of 48 pixels fits."""
    image, fat = simulated.image.astype(np.float64), simulated.labels == 1
    patches = _breast_patches(image, simulated.breast)
    middle = image.shape[1] // 2
    sides = [np.median(image[:, half][simulated.breast[:, half]]) for half in (slice(0, middle), slice(middle, None))]
    muscle = chest_labels(simulated, subject) == tissue.MUSCLE
    return {
        "in-breast spectrum exponent": _image_exponent(patches),
        "patch coefficient of variation": float(np.mean([p.std() / p.mean() for p in patches])) if patches else np.nan,
        "left / right breast, larger over smaller": float(max(sides) / max(min(sides), 1e-6)),
        "in-breast log-bias SD": _log_bias(simulated.clean, fat),
        "torso log-bias SD": _log_bias(simulated.clean, muscle),
    }


def _breast_patches(image: NDArray, inside: NDArray[np.bool_], size: int = 48) -> list[NDArray[np.float64]]:
    starts = [range(0, n - size + 1, size // 2) for n in image.shape]
    boxes = [np.s_[r : r + size, c : c + size] for r in starts[0] for c in starts[1]]
    return [image[box] for box in boxes if inside[box].mean() > 0.98]


def _image_exponent(patches: list[NDArray[np.float64]]) -> float:
    if not patches:
        return float("nan")
    size = patches[0].shape[0]
    window = np.outer(np.hanning(size), np.hanning(size))
    power = sum(np.abs(np.fft.fft2((p / p.mean() - 1) * window)) ** 2 for p in patches)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    band = (frequency > 2.5 / size) & (frequency < 0.25)  # above, real images lack resolution
    return float(-np.polyfit(np.log(frequency[band]), np.log(np.asarray(power)[band]), 1)[0])


def _log_bias(clean: NDArray, where: NDArray[np.bool_]) -> float:
    """SD of the log of the smoothed signal of one tissue: shading without texture."""
    weight = scipy.ndimage.gaussian_filter(where.astype(np.float64), 10)
    smooth = scipy.ndimage.gaussian_filter(np.where(where, clean, 0.0).astype(np.float64), 10)
    return float(np.log(np.maximum(smooth[where] / weight[where], 1e-6)).std()) if where.sum() > 200 else float("nan")


def chest_labels(simulated: Simulated, subject: Subject) -> NDArray[np.uint8]:
    """Tissue (R, C) at each pixel of a slice, nearest voxel; air outside the subject's volume."""
    z, y, x = simulated.origin_mm
    _, y0, x0 = subject.origin_mm
    steps = simulated.pixel_spacing_mm * np.arange(simulated.image.shape[0])
    rows, columns = (np.rint(start + steps).astype(int) for start in (y - y0, x - x0))
    ok = ((rows >= 0) & (rows < subject.labels.shape[1]), (columns >= 0) & (columns < subject.labels.shape[2]))
    plane = np.zeros(simulated.image.shape, np.uint8)
    plane[np.ix_(*ok)] = subject.labels[subject.plane(z)][np.ix_(rows[ok[0]], columns[ok[1]])]
    return plane


def radial_profiles(subject: Subject) -> dict[str, list[float]]:
    """Gland share in 4 mm shells from the skin (12) and in tenths of depth from chest wall to nipple (10)."""
    depth = mound_depth(subject)
    planes = np.flatnonzero(depth.max(axis=1) > 0.5 * depth.max())[::4]
    inside = subject.breast[planes]
    # From the inner border of the skin, as on label maps where the skin is a class of its own.
    under = ~np.isin(subject.labels[planes], [tissue.AIR, tissue.SKIN, tissue.SKIN_EDGE])
    inside = inside & under
    gland = (subject.labels[planes] == tissue.FGT) & inside
    shell = np.minimum((_distance_to_air(under) / 4).astype(int), 12)
    y = subject.origin_mm[1] + np.arange(inside.shape[1])[None, :, None]
    tenth = np.clip((10 * -y / np.maximum(depth[planes].max(axis=1), 1)[:, None, None]).astype(int), 0, 10)
    tenth = np.broadcast_to(np.where(y < 0, tenth, 10), inside.shape)
    return {
        "by skin distance, 4 mm": _share(shell, gland, inside, 12),
        "by depth, chest to nipple": _share(tenth, gland, inside, 10),
    }


def _distance_to_air(body: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.stack([scipy.ndimage.distance_transform_edt(plane) for plane in body])


def _share(bins: NDArray[np.intp], gland: NDArray[np.bool_], inside: NDArray[np.bool_], count: int) -> list[float]:
    total = np.bincount(bins[inside], minlength=count + 1)[:count]
    hits = np.bincount(bins[inside & gland], minlength=count + 1)[:count]
    return (hits / np.maximum(total, 1)).tolist()


def tissue_medians(simulated: Simulated, subject: Subject) -> dict[str, float]:
    """Median of the noiseless image over p99 for tissues of the chest (absent ones left out); skin by its 75th."""
    plane = chest_labels(simulated, subject)
    p99 = np.percentile(simulated.image, 99)
    groups = {"heart": (tissue.MYOCARDIUM, tissue.BLOOD), "muscle": (tissue.MUSCLE,), "lung": (tissue.LUNG,)}
    found = {name: simulated.image[np.isin(plane, members)] for name, members in groups.items()}
    medians = {f"{name} / p99": float(np.median(v) / p99) for name, v in found.items() if v.size > 200}
    skin = simulated.clean[(plane == tissue.SKIN) & simulated.breast]
    if skin.size > 50:
        medians["skin / p99"] = float(np.percentile(skin, 75) / p99)
    return medians


def noise_statistics(simulated: Simulated) -> dict[str, float]:
    """What the noise of one slice looks like: air ratio, growth to posterior, tissue SNR, spectrum, grey levels."""
    image, noise = simulated.image.astype(np.float64), simulated.image - simulated.clean
    front = int(np.argmax(simulated.breast.any(axis=1)))
    air = image[4 : max(front - 12, 8), 8:-8]
    edges = slice(8, max(image.shape[1] // 12, 16))
    fat, gland = simulated.labels == 1, simulated.labels == 2
    spectrum = np.square(np.abs(np.fft.rfft(air - air.mean(axis=1, keepdims=True), axis=1))).mean(axis=0)
    count = spectrum.size
    return {
        "air mean / SD": air.mean() / max(air.std(), 1e-9),
        "noise, posterior / anterior": image[-40:-8, edges].std() / max(air.std(), 1e-9),
        "fat SNR": np.median(simulated.clean[fat]) / max(noise[fat].std(), 1e-9),
        "gland SNR": np.median(simulated.clean[gland]) / max(noise[gland].std(), 1e-9) if gland.any() else np.nan,
        "noise spectrum at Nyquist": spectrum[-count // 12 :].mean() / max(spectrum[2 : count // 8].mean(), 1e-9),
        "maximum, counts": float(image.max()),
        "distinct greys": float(np.unique(simulated.image).size),
    }

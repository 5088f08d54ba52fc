"""From rendered planes to stored pixels: k-space, noise, reconstruction, vendor post-processing, integers.

The order follows section 6 of the phantom notes. Axis 0 is anterior-posterior (readout), axis 1 left-right (phase).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from reacquire.phantom.fields import F32, linear_matrix, resample, smoothstep
from reacquire.phantom.maps import Grid
from reacquire.phantom.protocols import Protocol
from reacquire.phantom.render import Rendered
from reacquire.phantom.scanner import Scanner
from reacquire.physics.signal import spgr

C64 = NDArray[np.complex64]
# Gland, 1.5 T, 1.5 mm, 1.02 mm pixels, R = 2, after the reconstruction filter. The high-pass estimate on real slices
# is 35; it counts fine anatomy as noise, so the value is set where the air beside the breasts has its measured SD.
REFERENCE_SNR = 52.0
FILTERED_SHARE = 0.52  # of the noise SD that a Gaussian filter of 0.6 Nyquist leaves in two dimensions
BLOCK = 16  # pixels per block of the background mask


@dataclass(frozen=True)
class Acquired:
    """``image`` (R, R) int16 as stored; ``clean`` (R, R) float32 without noise in the same units."""

    image: NDArray[np.int16]
    clean: F32


def noise_sd(protocol: Protocol, scanner: Scanner) -> float:
    """SD per channel of the unfiltered image noise, in units of the tissue signal table (SNR law, notes section 2)."""
    reference = float(spgr(1266.0, tr_ms=4.05, flip_deg=10.0, te_ms=1.73, t2s_ms=30.0, pd=0.8 * 0.97))
    dx, dy = (protocol.fov_mm / m for m in protocol.matrix)
    # N_z is the slab over the thickness, so SNR grows with the root of the thickness at equal coverage.
    volume = dx * dy * np.sqrt(protocol.thickness_mm) / (1.02**2 * np.sqrt(1.5))
    lines = np.sqrt(protocol.matrix[1] / protocol.bandwidth_hz_px / (325 / 545))
    snr = REFERENCE_SNR * FILTERED_SHARE * (protocol.field_t / 1.5) * volume * lines
    snr *= np.sqrt(2.0 / protocol.acceleration)
    return reference / snr * scanner.noise_gain


def acquire(
    rendered: Rendered, protocol: Protocol, scanner: Scanner, grid: Grid, *, noise_seed: int | None
) -> Acquired:
    """Reconstruct one slice; without a seed the image is noiseless."""
    n = grid.rows
    lines = (min(protocol.matrix[0], n), min(protocol.matrix[1], n))
    weight = filter_weights(lines, protocol, scanner)
    spectrum = _to_kspace(rendered.stationary, lines)
    spectrum -= _to_kspace(rendered.deficit, lines) * _fat_recovery(lines[1], rendered.q_fat, scanner)
    spectrum *= weight
    signal = _to_image(spectrum, n)
    sigma = noise_sd(protocol, scanner)
    local_sd, gain = _noise_profile(rendered, protocol, scanner, grid, sigma, weight)
    clean = _finish(np.abs(signal), rendered, scanner, local_sd)
    if noise_seed is None:
        noisy = clean
    else:
        noise = _to_image(_white(noise_seed, lines, n, sigma) * weight, n)
        if gain is not None:
            noise *= gain
        signal += noise
        noisy = _finish(np.abs(signal), rendered, scanner, local_sd)
    # A fixed scale per scanner and protocol, as a prescan would choose it; the slice's own grey levels do not enter.
    scale = np.float32(scanner.counts / (1.5 * rendered.gland_signal))
    clean *= scale
    top = 4095 if protocol.is_siemens else 32767
    image = clean if noise_seed is None else noisy * scale
    return Acquired(np.clip(np.rint(image), 0, top).astype(np.int16), clean)


def filter_weights(lines: tuple[int, int], protocol: Protocol, scanner: Scanner) -> F32:
    """k-space weights (readout, phase) in FFT order: the reconstruction filter times the partial-Fourier mask."""
    kr, kp = (np.abs(scipy.fft.fftfreq(m) * 2).astype(np.float32) for m in lines)
    if protocol.is_siemens:
        s = np.float32(scanner.filter_width)
        weight = np.exp(-0.5 * np.square(kr / s))[:, None] * np.exp(-0.5 * np.square(kp / s))[None, :]
    else:
        radius = np.sqrt(np.square(kr)[:, None] + np.square(kp)[None, :])
        weight = 1 / (1 + np.exp((radius - np.float32(scanner.filter_width)) / np.float32(0.05)))
    if protocol.partial_fourier < 1 and scanner.fills_zero:
        signed = scipy.fft.fftfreq(lines[1]).astype(np.float32) * 2
        weight = weight * smoothstep(signed, 1 - 2 * protocol.partial_fourier - 0.06, 1 - 2 * protocol.partial_fourier)
    return weight.astype(np.float32)


def _fat_recovery(count: int, q_fat: float, scanner: Scanner) -> F32:
    """Share of fat's deficit that is left at each phase-encoding line."""
    k = np.abs(scipy.fft.fftfreq(count) * 2)
    return (q_fat ** (scanner.fat.pulses + scanner.fat.span * k)).astype(np.float32)


def _split(m: int) -> tuple[slice, slice]:
    """Positive and negative frequencies of the first ``m`` lines in FFT order."""
    half = (m + 1) // 2
    return slice(0, half), slice(half - m, None)


def _to_kspace(plane: C64, lines: tuple[int, int]) -> C64:
    """FFT that computes only the acquired lines (truncation is where Gibbs ringing arises)."""
    positive, negative = _split(lines[0])
    rows = scipy.fft.fft(plane, axis=0, workers=1)
    rows = np.concatenate([rows[positive], rows[negative]])
    columns = scipy.fft.fft(rows, axis=1, overwrite_x=True, workers=1)
    positive, negative = _split(lines[1])
    return np.concatenate([columns[:, positive], columns[:, negative]], axis=1)


def _to_image(spectrum: C64, n: int) -> C64:
    """Zero-filled inverse of ``_to_kspace`` to an (n, n) image."""
    padded = np.zeros((spectrum.shape[0], n), np.complex64)
    half = (spectrum.shape[1] + 1) // 2
    padded[:, :half] = spectrum[:, :half]
    padded[:, n - (spectrum.shape[1] - half) :] = spectrum[:, half:]
    rows = scipy.fft.ifft(padded, axis=1, overwrite_x=True, workers=1)
    full = np.zeros((n, n), np.complex64)
    half = (spectrum.shape[0] + 1) // 2
    full[:half] = rows[:half]
    full[n - (spectrum.shape[0] - half) :] = rows[half:]
    return scipy.fft.ifft(full, axis=0, overwrite_x=True, workers=1)


def _white(seed: int, lines: tuple[int, int], n: int, sigma: float) -> C64:
    """Complex white k-space noise whose unfiltered image has SD ``sigma`` per channel."""
    rng = np.random.default_rng([seed, 0xACCE])
    noise = rng.standard_normal((*lines, 2), dtype=np.float32).view(np.complex64)[..., 0]
    noise *= np.float32(sigma * n * n / np.sqrt(lines[0] * lines[1]))
    return noise


def _noise_profile(
    rendered: Rendered, protocol: Protocol, scanner: Scanner, grid: Grid, sigma: float, weight: F32
) -> tuple[F32, F32 | None]:
    """Expected noise SD after normalisation on blocks of ``BLOCK`` pixels, and the g-factor plane (None when flat)."""
    n = grid.rows
    acceleration = protocol.acceleration
    homodyne = protocol.partial_fourier < 1 and not scanner.fills_zero
    x = grid.x_mm + grid.pixel_mm * np.arange(n, dtype=np.float32)
    g_row = (1 + (acceleration - 1) * 0.25 * np.exp(-np.square(x / 60))).astype(np.float32)
    if homodyne:  # conjugate symmetry: fewer samples bear the same signal
        g_row *= np.float32(1 / np.sqrt(protocol.partial_fourier))
    gain = g_row[None, :] if acceleration > 1 or homodyne else None
    filtered = sigma * float(np.sqrt(np.mean(np.square(weight))))
    middle = slice(BLOCK // 2, None, BLOCK)
    normal = np.power(rendered.receive[middle, middle], np.float32(-scanner.gamma))
    return (filtered * g_row[None, middle] * normal).astype(np.float32), gain


def _finish(magnitude: F32, rendered: Rendered, scanner: Scanner, local_sd: F32) -> F32:
    """Receive normalisation, background, sharpening, warped edges."""
    if scanner.gamma > 0:
        magnitude = magnitude * np.power(rendered.receive, np.float32(-scanner.gamma))
    if scanner.zero_background:
        magnitude = _suppress_background(magnitude, local_sd)
    if scanner.sharpen > 0:
        magnitude = _sharpen(magnitude, np.float32(scanner.sharpen))
    if scanner.warp_px > 0:
        _warp_edges(magnitude, scanner.warp_px)
    return magnitude


def _suppress_background(magnitude: F32, local_sd: F32) -> F32:
    """Soft floor outside a loose body mask, as GE images show: air reads almost zero."""
    n = magnitude.shape[0]
    blocks = magnitude.reshape(n // BLOCK, BLOCK, n // BLOCK, BLOCK).mean(axis=(1, 3))
    body = smoothstep(blocks / local_sd, 1.8, 3.5).astype(np.float32)
    up = linear_matrix(n // BLOCK, n, -0.5 + 0.5 / BLOCK, 1 / BLOCK, True)
    body, floor = resample(body, up, up), resample(local_sd, up, up)
    air = np.maximum(magnitude - np.float32(1.5) * floor, 0)
    air *= np.float32(0.45)
    magnitude = magnitude - air
    magnitude *= body
    magnitude += air
    return magnitude


def _sharpen(magnitude: F32, strength: np.float32) -> F32:
    """Three-tap sharpening along both axes, clipped at zero: undershoot beside bright skin becomes exact zeros."""
    out = magnitude * (1 + 2 * strength)
    half = magnitude * (strength / 2)
    out[1:] -= half[:-1]
    out[:-1] -= half[1:]
    out[:, 1:] -= half[:, :-1]
    out[:, :-1] -= half[:, 1:]
    return np.maximum(out, 0, out=out)


def _warp_edges(magnitude: F32, depth_px: float) -> None:
    """Black arcs at the left and right edge, where distortion correction found no data."""
    n = magnitude.shape[0]
    arc = np.rint(depth_px * np.square(np.linspace(-1, 1, n))).astype(int)
    for row in np.flatnonzero(arc):
        magnitude[row, : arc[row]] = 0
        magnitude[row, n - arc[row] :] = 0

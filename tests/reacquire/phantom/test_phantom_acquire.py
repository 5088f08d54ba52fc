from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from reacquire.phantom.acquire import acquire, filter_weights, noise_sd
from reacquire.phantom.maps import Grid
from reacquire.phantom.protocols import Protocol
from reacquire.phantom.render import Rendered
from reacquire.phantom.scanner import Scanner

Scan = tuple[Protocol, Scanner]


def plain(scan: Scan, **changes: object) -> Scan:
    """A scan with every vendor effect switched off, then the changes to the protocol."""
    protocol, scanner = scan
    scanner = replace(
        scanner, gamma=0.0, sharpen=0.0, warp_px=0.0, zero_background=False, ghost=0.0, noise_gain=1.0, counts=1e4
    )
    return replace(protocol, partial_fourier=1.0, acceleration=1.0, **changes), scanner


def picture(plane: NDArray, scan: Scan, seed: int | None) -> NDArray:
    """Magnitude of one plane through the chain, in units of the gland's signal."""
    protocol, scanner = scan
    grid = Grid(protocol.rows, protocol.fov_mm, 0.0, 0.0)
    flat = np.ones(plane.shape, np.float32)
    rendered = Rendered(plane.astype(np.complex64), np.zeros(plane.shape, np.complex64), flat, 0.97, 1.0)
    got = acquire(rendered, protocol, scanner, grid, noise_seed=seed)
    return got.clean if seed is None else got.image


def test_air_is_rayleigh(scans: dict[str, Scan]) -> None:
    air = np.zeros((448, 448))
    protocol, scanner = plain(scans["S1"])
    image = picture(air, (protocol, replace(scanner, counts=4e6)), 3).astype(float)
    assert image.mean() / image.std() == pytest.approx(1.91, abs=0.05)


def test_a_strong_signal_has_gaussian_noise_of_the_stated_sd(scans: dict[str, Scan]) -> None:
    protocol, scanner = plain(scans["G2"])
    scanner = replace(scanner, filter_width=5.0, counts=3e4)  # no filter: the SD is that of the law
    image = picture(np.ones((512, 512)), (protocol, scanner), 4).astype(float)
    middle = image[100:400, 100:400]
    assert middle.std() / middle.mean() == pytest.approx(noise_sd(protocol, scanner), rel=0.05)


def test_the_noise_spectrum_is_the_filters(scans: dict[str, Scan]) -> None:
    protocol, scanner = plain(scans["S1"])
    scanner = replace(scanner, counts=1e5)  # so that rounding adds nothing
    image = picture(np.full((448, 448), 0.05), (protocol, scanner), 5).astype(float)
    power = np.abs(np.fft.fft(image - image.mean(), axis=0)) ** 2
    spectrum = power.mean(axis=1)
    near, edge = spectrum[2:20].mean(), spectrum[200:224].mean()
    amplitude = np.sqrt(edge / near)
    assert amplitude == pytest.approx(np.exp(-0.5 * (0.945 / scanner.filter_width) ** 2), rel=0.15)
    assert 0.15 < amplitude < 0.40  # real slices: 0.15 to 0.27 at Nyquist


def width(scan: Scan) -> float:
    """Full width at half maximum of a point's image along the readout, mm."""
    protocol, _ = scan
    plane = np.zeros((protocol.rows, protocol.rows))
    plane[protocol.rows // 2, protocol.rows // 2] = 1e4
    row = np.abs(picture(plane, scan, None)[:, protocol.rows // 2])
    fine = np.interp(np.arange(0, row.size, 0.01), np.arange(row.size), row)
    return float((fine > fine.max() / 2).sum() * 0.01 * protocol.fov_mm / protocol.rows)


def test_the_point_spread_widens_as_the_matrix_shrinks(scans: dict[str, Scan]) -> None:
    widths = [width(plain(scans["G4"], matrix=(m, m), fov_mm=350.0, rows=1024)) for m in (256, 320, 448)]
    ratios = [w * m for w, m in zip(widths, (256, 320, 448), strict=True)]
    assert widths[0] > widths[1] > widths[2]
    assert max(ratios) / min(ratios) < 1.08  # width x matrix is constant


def test_truncation_rings_at_edges(scans: dict[str, Scan]) -> None:
    protocol, scanner = plain(scans["G4"], matrix=(256, 256), rows=1024)
    scanner = replace(scanner, filter_width=5.0)
    plane = np.zeros((1024, 1024))
    plane[300:700] = 1.0
    clean = picture(plane, (protocol, scanner), None)[:, 512]
    assert clean.max() / np.median(clean[320:680]) == pytest.approx(1.09, abs=0.02)  # Gibbs: 9 % overshoot


def test_partial_fourier_with_zero_filling_drops_one_side(scans: dict[str, Scan]) -> None:
    protocol, scanner = scans["G4"]
    scan = replace(protocol, partial_fourier=0.75), replace(scanner, fills_zero=True, filter_width=5.0)
    weights = filter_weights((350, 350), *scan)[0]
    assert (weights > 0.5).mean() == pytest.approx(0.75, abs=0.02)


def test_snr_law(scans: dict[str, Scan]) -> None:
    protocol, scanner = plain(scans["G6"])
    thick = replace(protocol, iap={**protocol.iap, "SliceThickness": 4 * protocol.thickness_mm})
    strong = replace(protocol, iap={**protocol.iap, "MagneticFieldStrength": 3.0})
    base = noise_sd(protocol, scanner)
    assert noise_sd(thick, scanner) == pytest.approx(base / 2)
    assert noise_sd(strong, scanner) == pytest.approx(base / 2)
    assert noise_sd(replace(protocol, acceleration=2.0), scanner) == pytest.approx(base * np.sqrt(2))


def test_ge_air_is_almost_zero_and_siemens_air_is_not(scans: dict[str, Scan]) -> None:
    shares = {}
    for name in ("S1", "G3"):
        protocol, scanner = scans[name]
        plane = np.zeros((protocol.rows, protocol.rows))
        plane[protocol.rows // 2 : -40] = 0.03  # about the signal of gland
        image = picture(plane, (protocol, replace(scanner, counts=1e5)), 6)
        shares[name] = image[60 : protocol.rows // 3].mean() / np.percentile(image, 99)
    assert shares["G3"] < 0.002 < shares["S1"]

"""Native pixels <-> model grid, the one implementation that training and serving share and bundles pin by hash.

Forward: resize to a square grid, then percentile normalisation without clipping (paper, appendix A.2: 10 -> 0,
99 -> 1). Back: only the *change* that a model made is upsampled and added to the native pixels, so that detail finer
than the grid survives. Orientation is ``geometry``'s; file formats are ``reacquire.dicom``'s.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reacquire.errors import BundleError, PixelError

VERSION = 1  # of the arithmetic below: raise it with any change of a result, so that bundles notice
Image = NDArray[np.float32]


@dataclass(frozen=True)
class ModelImage:
    """What a model sees: ``values`` (size, size) float32; ``low`` and ``high`` are its 0 and 1 in native units."""

    values: Image
    low: float
    high: float


@dataclass(frozen=True)
class Preprocessing:
    """Resizing and percentile normalisation with its exact inverse.

    Attributes
    ----------
    size : int
        Edge of the square model grid, pixels. Each axis is resized on its own.
    lower, upper : float
        Percentiles (linear interpolation) of the resized image that become 0 and 1.
    resize : {"area", "antialias"}
        Adaptive averaging, or bilinear with antialiasing.
    """

    size: int = 224
    lower: float = 10.0
    upper: float = 99.0
    resize: Literal["area", "antialias"] = "area"

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.lower < self.upper <= 100:
            raise ValueError("size must be positive and 0 <= lower < upper <= 100 (percentiles)")
        if self.resize not in ("area", "antialias"):
            raise ValueError("resize must be 'area' or 'antialias'")

    def forward(self, pixels: NDArray[Any]) -> ModelImage:
        """Normalise one slice.

        Parameters
        ----------
        pixels : (R, C) array
            Canonical orientation, any byte order or stride, native units.

        Raises
        ------
        PixelError
            ``degenerate-image`` when the two percentiles coincide or a pixel is not finite.
        """
        resized = self._resize(pixels)
        if not np.isfinite(resized).all():
            raise PixelError("the image holds values that are not finite", code="degenerate-image", where="PixelData")
        low, high = (float(v) for v in np.percentile(resized.astype(np.float64), (self.lower, self.upper)))
        if high <= low:
            raise PixelError(
                f"percentiles {self.lower:g} and {self.upper:g} of the image coincide; a slice with tissue is needed",
                code="degenerate-image",
                where="PixelData",
            )
        return ModelImage(((resized - low) / (high - low)).astype(np.float32), low, high)

    def on_scale_of(self, pixels: NDArray[Any], reference: ModelImage) -> Image:
        """Another image of the same grid, (R, C) in native units, at model size on the scale of ``reference``."""
        return ((self._resize(pixels) - reference.low) / (reference.high - reference.low)).astype(np.float32)

    def apply_change(
        self, native: NDArray[Any], before: ModelImage, after: Image, *, stored_range: tuple[int, int]
    ) -> NDArray[np.int32]:
        """Add the change from ``before`` to ``after`` to the native pixels.

        Parameters
        ----------
        native : (R, C) array
            The pixels that ``before`` was made from.
        after : (size, size) float32
            The model's output on the normalised scale.
        stored_range : (int, int)
            Smallest and largest value that the file can store; the result is clipped to it and rounded once.

        Returns
        -------
        (R, C) int32
            Equal to ``native`` bit for bit when ``after`` equals ``before``.
        """
        return np.rint(np.clip(self.add_change(native, before, after), *stored_range)).astype(np.int32)

    def add_change(self, native: NDArray[Any], before: ModelImage, after: Image) -> NDArray[np.float64]:
        """``apply_change`` without its rounding and clipping, for pixels that no file will store: (R, C) float64."""
        change = _upsample(np.asarray(after - before.values, dtype=np.float32)[None], native.shape)[0]
        # float64: a 16-bit value plus a small change must not lose the half that rounding looks at
        return native.astype(np.float64) + change.astype(np.float64) * (before.high - before.low)

    def deviation_to_native(self, shape: tuple[int, ...], before: ModelImage, deviation: Image) -> Image:
        """A standard deviation (size, size) on the normalised scale of ``before`` -> native grid and units."""
        return np.asarray(_upsample(deviation[None], shape)[0] * (before.high - before.low), dtype=np.float32)

    def labels_to_native(self, logits: Image, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Class scores ``(K, size, size)`` -> labels ``(R, C)``: upsampled as scores, so that borders stay smooth."""
        return np.argmax(_upsample(np.asarray(logits, dtype=np.float32), shape), axis=0).astype(np.uint8)

    def probabilities_to_native(self, logits: Image, shape: tuple[int, int]) -> Image:
        """Class scores ``(K, size, size)`` -> probabilities ``(K, R, C)`` that agree with ``labels_to_native``."""
        scores = _upsample(np.asarray(logits, dtype=np.float32), shape)
        odds = np.exp(scores - scores.max(axis=0))
        return np.asarray(odds / odds.sum(axis=0), dtype=np.float32)

    def forward_labels(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels ``(R, C)`` -> ``(size, size)``, each cell the label under its centre."""
        rows, columns = (((np.arange(self.size) + 0.5) * n / self.size).astype(np.intp) for n in labels.shape)
        return labels[np.ix_(rows, columns)]

    def to_dict(self) -> dict[str, Any]:
        """Its parameters and the version of the arithmetic, as plain data for a manifest."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of ``to_dict``.

        Raises
        ------
        BundleError
            For unknown or missing keys, values out of range, or another version of the arithmetic.
        """
        names = {f.name for f in fields(cls)}
        if set(data) != names | {"version"}:
            raise BundleError(f"preprocessing needs exactly the keys version, {', '.join(sorted(names))}")
        if data["version"] != VERSION:
            raise BundleError(f"preprocessing of another version; this library computes version {VERSION}")
        try:
            return cls(**{name: data[name] for name in names})
        except (TypeError, ValueError) as error:
            raise BundleError(f"preprocessing: {error}") from error

    @property
    def sha256(self) -> str:
        """Digest of the canonical JSON of ``to_dict``."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode()
        return hashlib.sha256(canonical).hexdigest()

    def _resize(self, pixels: NDArray[Any]) -> Image:
        import torch.nn.functional as F  # here, because the torch-free reacquire.dicom shares this package

        image = _tensor(pixels)[None, None]  # (1, 1, R, C)
        size = (self.size, self.size)
        if self.resize == "area":
            return F.interpolate(image, size, mode="area")[0, 0].numpy()
        return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy()


def _upsample(channels: Image, shape: tuple[int, ...]) -> Image:
    """Bilinear, pixel centres aligned by half-pixel offsets: (K, h, w) -> (K, R, C)."""
    import torch.nn.functional as F

    return F.interpolate(_tensor(channels)[None], tuple(shape), mode="bilinear", align_corners=False)[0].numpy()


def _tensor(array: NDArray[Any]) -> Any:
    """A torch view of a native-endian, positively strided float32 copy: torch refuses the other kinds."""
    import torch

    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))

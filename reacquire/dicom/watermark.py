"""Burns a warning into the pixels: the only mark that survives screenshots, renderers and de-identification.

A 5 x 7 bitmap font of the few letters that the text needs, so that the result depends on no installed font.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reacquire.errors import PixelError

LINES = ("SYNTHETIC -", "NOT FOR", "DIAGNOSIS")
GLYPH_ROWS, ADVANCE = 7, 6
_FONT = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "D": "11110 10001 10001 10001 10001 10001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "G": "01110 10001 10000 10111 10001 10001 01110",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "N": "10001 11001 10101 10101 10011 10001 10001",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "Y": "10001 10001 01010 00100 00100 00100 00100",
    "-": "00000 00000 00000 11111 00000 00000 00000",
    " ": "00000 00000 00000 00000 00000 00000 00000",
}


def text_mask(lines: tuple[str, ...] = LINES) -> NDArray[np.bool_]:
    """The text as a mask, (9 per line - 2, 6 per character) bool."""
    width = ADVANCE * max(len(line) for line in lines)
    mask = np.zeros((len(lines) * (GLYPH_ROWS + 2) - 2, width), dtype=np.bool_)
    for number, line in enumerate(lines):
        for position, character in enumerate(line):
            rows = [[bit == "1" for bit in row] for row in _FONT[character].split()]
            top, left = number * (GLYPH_ROWS + 2), position * ADVANCE
            mask[top : top + GLYPH_ROWS, left : left + len(rows[0])] = rows
    return mask


def burn_in(pixels: NDArray[Any], *, bright: float) -> NDArray[Any]:
    """A copy of ``pixels`` (R, C) with the warning in the bottom left corner as displayed.

    Parameters
    ----------
    bright : number
        Value of the letters; a one-pixel dark rim keeps them legible on bright tissue.

    Raises
    ------
    PixelError
        ``invalid-image-attributes`` when the image is too small to hold the text.
    """
    rows, columns = pixels.shape
    mask = text_mask()
    scale = max(1, columns // (4 * mask.shape[1]))
    mask = np.pad(np.kron(mask, np.ones((scale, scale), dtype=np.bool_)), 2)
    if mask.shape[0] > rows or mask.shape[1] > columns:
        raise PixelError(
            f"the watermark needs at least {mask.shape[0]} x {mask.shape[1]} pixels",
            code="invalid-image-attributes",
            where="Rows",
        )
    rim = np.zeros_like(mask)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            rim |= np.roll(mask, (down, right), axis=(0, 1))
    marked = pixels.copy()
    corner = marked[rows - mask.shape[0] :, : mask.shape[1]]
    corner[rim] = pixels.min()
    corner[mask] = bright
    return marked

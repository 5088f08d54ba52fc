"""The transfer syntaxes that are accepted, how each is framed, and which decoder reads it (PS3.5 annexes A and 8.2).

One decoder per syntax, so that a file gives the same pixels on every machine. Whatever is not in the table is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydicom.uid import UID

Codec = Literal["native", "rle", "jpeg-lossless", "jpeg-ls", "jpeg2000"]


@dataclass(frozen=True)
class Syntax:
    """One accepted transfer syntax.

    Attributes
    ----------
    codec : str
        Family of the pixel data; ``native`` is uncompressed.
    plugin : str or None
        The pydicom plugin that decodes it; None for native data and RLE, which need none.
    lossy : bool
        The syntax itself may lose information.
    """

    uid: UID
    name: str
    codec: Codec
    plugin: str | None = None
    implicit: bool = False
    little_endian: bool = True
    deflated: bool = False
    lossy: bool = False


_TABLE = (
    Syntax(UID("1.2.840.10008.1.2"), "Implicit VR Little Endian", "native", implicit=True),
    Syntax(UID("1.2.840.10008.1.2.1"), "Explicit VR Little Endian", "native"),
    Syntax(UID("1.2.840.10008.1.2.1.99"), "Deflated Explicit VR Little Endian", "native", deflated=True),
    Syntax(UID("1.2.840.10008.1.2.2"), "Explicit VR Big Endian", "native", little_endian=False),
    Syntax(UID("1.2.840.10008.1.2.4.57"), "JPEG Lossless", "jpeg-lossless", "gdcm"),
    Syntax(UID("1.2.840.10008.1.2.4.70"), "JPEG Lossless SV1", "jpeg-lossless", "gdcm"),
    Syntax(UID("1.2.840.10008.1.2.4.80"), "JPEG-LS Lossless", "jpeg-ls", "pyjpegls"),
    Syntax(UID("1.2.840.10008.1.2.4.81"), "JPEG-LS Near-Lossless", "jpeg-ls", "pyjpegls", lossy=True),
    Syntax(UID("1.2.840.10008.1.2.4.90"), "JPEG 2000 Lossless", "jpeg2000", "pylibjpeg"),
    Syntax(UID("1.2.840.10008.1.2.4.91"), "JPEG 2000", "jpeg2000", "pylibjpeg", lossy=True),
    Syntax(UID("1.2.840.10008.1.2.4.201"), "HTJ2K Lossless", "jpeg2000", "pylibjpeg"),
    Syntax(UID("1.2.840.10008.1.2.4.202"), "HTJ2K Lossless RPCL", "jpeg2000", "pylibjpeg"),
    Syntax(UID("1.2.840.10008.1.2.4.203"), "HTJ2K", "jpeg2000", "pylibjpeg", lossy=True),
    Syntax(UID("1.2.840.10008.1.2.5"), "RLE Lossless", "rle"),
)

SYNTAXES: dict[str, Syntax] = {str(s.uid): s for s in _TABLE}

EIGHT_BIT_LOSSY = frozenset({"1.2.840.10008.1.2.4.50"})  # JPEG baseline holds 8 bits and always loses some


def unavailable() -> tuple[str, ...]:
    """Names of the accepted syntaxes whose decoder is not installed here (empty on a complete installation)."""
    from pydicom.pixels import get_decoder

    missing = []
    for syntax in _TABLE:
        if syntax.plugin and syntax.plugin not in get_decoder(syntax.uid).available_plugins:
            missing.append(syntax.name)
    return tuple(missing)


def self_check() -> Mapping[str, str]:
    """What is wrong with which accepted syntax, by name: one known picture is sent through every decoder."""
    from reacquire.dicom import selfcheck  # which imports this module

    return {SYNTAXES[uid].name: reason for uid, reason in selfcheck.self_check().items()}

"""What was uploaded -> the DICOM files in it: one file as it is, or the members of a zip of one series.

Names inside an archive are used for nothing but refusals; nothing is written to disk.
"""

import stat
import zipfile
from io import BytesIO

from reacquire.dicom.container import is_part10, is_zip
from reacquire.dicom.frames import explode, is_enhanced
from reacquire.dicom.limits import DEFAULT, Limits
from reacquire.errors import ContainerError, ReacquireError

IGNORED = ("__MACOSX/", ".DS_Store", "Thumbs.db")  # what desktop systems add to archives of their own accord
SPLIT = 2**20


def unpack(data: bytes, *, limits: Limits = DEFAULT) -> list[bytes]:
    """The DICOM files in an upload, in the order of the archive.

    Parameters
    ----------
    data : bytes
        A DICOM file, or a zip whose members are DICOM files of one series.

    Returns
    -------
    list of bytes
        ``[data]`` for any other single file: whether it is DICOM is for ``inspect`` to say. An Enhanced MR object
        becomes one classic file per frame (``frames``).

    Raises
    ------
    ContainerError
        ``empty-body``, ``too-large``, ``unsafe-archive``, ``decompression-limit``, ``unsupported-container`` or
        ``dicomdir-not-accepted``; for an Enhanced MR object also what ``frames.explode`` raises.
    """
    if not data:
        raise ContainerError("the body is empty; send a DICOM file or a zip of one series", code="empty-body")
    if len(data) > limits.series_bytes:
        raise ContainerError(f"an upload may have at most {limits.series_bytes} bytes", code="too-large")
    if not is_zip(data):
        return _slices([data], limits)
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = _members(archive, len(data), limits)
    except ReacquireError:
        raise
    except Exception as error:  # zipfile raises many kinds on hostile bytes, ValueError and KeyError among them
        raise ContainerError(
            "the archive is damaged, encrypted or of an unknown method", code="unsafe-archive"
        ) from error
    return _slices(members, limits)


def _slices(files: list[bytes], limits: Limits) -> list[bytes]:
    """The files with each Enhanced MR object replaced by its frames; caps count what comes out."""
    slices: list[bytes] = []
    size = 0
    for data in files:
        members = explode(data, limits=limits) if is_enhanced(data) else [data]
        slices += members
        size += sum(map(len, members))
        if len(slices) > limits.instances or size > limits.series_bytes:
            raise ContainerError(
                f"a series may have at most {limits.instances} slices and {limits.series_bytes} bytes",
                code="too-large",
            )
    return slices


def _members(archive: zipfile.ZipFile, size: int, limits: Limits) -> list[bytes]:
    entries = archive.infolist()
    if len(entries) > limits.entries:
        raise ContainerError(f"an archive may have at most {limits.entries} entries", code="unsafe-archive")
    for entry in entries:
        _check_name(entry)
    wanted = [e for e in entries if not e.is_dir() and not any(word in e.filename for word in IGNORED)]
    if not wanted:
        raise ContainerError("the archive holds no file", code="empty-body")
    if len(wanted) > limits.instances:
        raise ContainerError(f"a series may have at most {limits.instances} files", code="too-large")
    allowance = min(limits.series_bytes, size * limits.archive_ratio)
    files: list[bytes] = []
    for entry in wanted:
        files.append(_read(archive, entry, min(limits.instance_bytes, allowance)))
        allowance -= len(files[-1])
    return files


def _check_name(entry: zipfile.ZipInfo) -> None:
    """No absolute path, parent, drive or link, although no name is ever used as a path here."""
    parts = entry.filename.replace("\\", "/").split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if parts[0] == "" or ".." in parts or ":" in parts[0] or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ContainerError("the archive holds a link or a path that leaves it", code="unsafe-archive")
    if parts[-1].upper() == "DICOMDIR":
        raise ContainerError("a DICOMDIR is an index, not an image; send the images", code="dicomdir-not-accepted")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, cap: int) -> bytes:
    """One member, counted while it inflates: the size in the directory is the sender's claim."""
    if entry.file_size > cap:
        raise _beyond(cap)
    content = bytearray()
    with archive.open(entry) as stream:
        while block := stream.read(SPLIT):
            content += block
            if len(content) > cap:
                raise _beyond(cap)
    member = bytes(content)
    if is_zip(member) or (not is_part10(member) and member.startswith(b"\x1f\x8b")):
        raise ContainerError("an archive inside the archive is not opened", code="unsupported-container")
    return member


def _beyond(cap: int) -> ContainerError:
    return ContainerError(f"the archive inflates beyond {cap} bytes", code="decompression-limit")

"""Where a slice really comes from: the object that was sent, which an Enhanced MR frame's stand-in is not.

``frames`` turns each frame of a multi-frame object into a classic file of its own and notes the real object in a
private block; ``origin_of`` reads it back, so that whatever is derived refers to what exists in the archive (PS3.3
10.3, Image SOP Instance Reference Macro). A sender who forges the block makes us refer to UIDs of his choice, no more.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from reacquire.dicom import values
from reacquire.errors import DatasetError

GROUP, CREATOR = 0x0099, "REACQUIRE FRAME 1"
_BLOCK = 0x10
_SOURCE = re.compile(r"([A-Za-z]+)=([A-Za-z:]+)")
CREATOR_TAG = GROUP << 16 | _BLOCK
CLASS_TAG, INSTANCE_TAG, FRAME_TAG, SOURCES_TAG = (GROUP << 16 | _BLOCK << 8 | element for element in range(1, 5))


@dataclass(frozen=True)
class Origin:
    """The object that a reference must name.

    Attributes
    ----------
    class_uid, instance_uid : str
        SOPClassUID and SOPInstanceUID of what was sent.
    frame : int or None
        ReferencedFrameNumber, from 1; None for a single-frame object, whose references have none.
    sources : mapping of str to str
        Which element or functional group each acquisition parameter of the frame was found in, by keyword.
    """

    class_uid: str = field(repr=False)
    instance_uid: str = field(repr=False)
    frame: int | None = None
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)


def origin_of(ds: Dataset) -> Origin:
    """The origin of a file that passed ``checks.check_uids``.

    Raises
    ------
    DatasetError
        ``invalid-uid`` or ``corrupt-dataset`` for a note that ``frames`` cannot have written.
    """
    itself = Origin(values.uid(ds, "SOPClassUID") or "", values.uid(ds, "SOPInstanceUID") or "")
    if _note(ds, CREATOR_TAG) != CREATOR:
        return itself
    uids = [values.checked_uid(_note(ds, tag), "SOPInstanceUID") for tag in (CLASS_TAG, INSTANCE_TAG)]
    frame = _note(ds, FRAME_TAG)
    if not (frame.isascii() and frame.isdecimal() and len(frame) <= 9 and int(frame) >= 1):
        raise DatasetError("the note of the frame's origin is damaged", code="corrupt-dataset")
    return Origin(uids[0], uids[1], int(frame), dict(_SOURCE.findall(_note(ds, SOURCES_TAG))))


def _note(ds: Dataset, tag: int) -> str:
    return values.raw_text(ds, BaseTag(tag)) or ""

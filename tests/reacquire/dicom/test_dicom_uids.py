"""UIDs: a function of their key, valid, and under the site's own root from settings to every kind of object."""

import numpy as np
import pydicom
import pytest
from builders import make_series, read_back
from pydantic import ValidationError
from pydicom.uid import UID
from test_dicom_segmentation import ALGORITHM, make_labels
from test_dicom_write import PROVENANCE

from reacquire.dicom import Finding, Form, read_slice, write_report, write_segmentation, write_series
from reacquire.dicom.uids import check_uid_root, derive_uid
from worker.settings import WorkerSettings

ROOT = "1.2.826.0.1.3680043.10.99999"
LONGEST = "1.2.840.113619.111111111.222222222.33333"


def test_a_uid_depends_on_its_whole_key_and_nothing_else():
    assert derive_uid("a", 1) == derive_uid("a", 1) != derive_uid("a", 2)
    assert derive_uid("a", 1) != derive_uid("a", "1")
    assert derive_uid("a", 1) != derive_uid("a", 1, root=ROOT)


@pytest.mark.parametrize("root", [None, "1.2", "2.25", ROOT, LONGEST])
def test_uids_are_valid_under_any_root_that_is_accepted(root):
    assert root is None or check_uid_root(root) == root
    uids = {derive_uid(n, root=root) for n in range(1000)}
    assert len(uids) == 1000
    assert all(UID(u).is_valid and len(u) <= 64 and u.startswith(f"{root or '2.25'}.") for u in uids)


@pytest.mark.parametrize("root", ["", "1", "1.", ".1", "1.02", "3.1", "1.40", "1.2.a", "1.2 ", LONGEST + "3", "1..2"])
def test_what_is_no_root_is_refused_by_library_and_settings(root, monkeypatch):
    with pytest.raises(ValueError, match="UID root"):
        check_uid_root(root)
    if root:
        monkeypatch.setenv("REACQUIRE_UID_ROOT", root)
        with pytest.raises(ValidationError, match="UID root"):
            WorkerSettings()


def test_the_setting_takes_a_root(monkeypatch):
    assert WorkerSettings().uid_root is None
    monkeypatch.setenv("REACQUIRE_UID_ROOT", ROOT)
    assert WorkerSettings().uid_root == ROOT


def uids_of(ds: pydicom.Dataset) -> set[str]:
    """Every UID in an object that is not the standard's."""
    elements = [e for e in ds.iterall() if e.VR == "UI"]
    return {str(u) for e in elements for u in ([e.value] if isinstance(e.value, str) else e.value)} - {
        u for u in map(str, pydicom.uid.UID_dictionary) if u
    }


@pytest.mark.parametrize("kind", ["mr", "secondary-capture", "segmentation", "report"])
def test_all_new_uids_of_every_writer_lie_under_the_root(kind):
    slices = [read_slice(data) for data in make_series(2)]
    if kind == "segmentation":
        data = write_segmentation(slices, make_labels(2), algorithm=ALGORITHM, uid_root=ROOT)
    elif kind == "report":
        data = write_report(slices, [Finding("FlipAngle", 9.0, unit="deg")], algorithm=ALGORITHM, uid_root=ROOT)
    else:
        images = [s.pixels.astype(np.int32) for s in slices]
        data = write_series(slices, images, provenance=PROVENANCE, form=Form(output_class=kind, uid_root=ROOT))[0]
    new = {u for u in uids_of(read_back(data)) if not u.startswith("1.2.3.")}
    assert {"2.25" if u.startswith("2.25.") else u[: len(ROOT)] for u in new} == {ROOT}

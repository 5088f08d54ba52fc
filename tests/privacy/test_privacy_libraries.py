"""What pydicom, highdicom, pynetdicom and the warnings module say about a patient ends at the log handler."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENT = "ZQXMARK"

SETUP = "from reacquire.jobs.logs import set_up; set_up('gateway', 'debug'); import logging, warnings\n"
SAYING = {
    "pydicom warns with the value": (
        "from pydicom.dataset import Dataset; ds = Dataset(); ds.PatientSex = 'zqxmark lower case, far too long'"
    ),
    "pydicom logs with the value": "import pydicom; logging.getLogger('pydicom').warning('value %s', 'ZQXMARK')",
    "highdicom warns with the name": (
        "from highdicom.valuerep import check_person_name; check_person_name('ZQXMARK')\n"
        "warnings.warn('ZQXMARK', UserWarning)"
    ),
    "highdicom logs": "logging.getLogger('highdicom.seg.sop').warning('of patient ZQXMARK')",
    "pynetdicom logs identifiers": (
        "import io; logging.getLogger('pynetdicom').addHandler(logging.StreamHandler(io.StringIO()))\n"
        "logging.getLogger('pynetdicom.acse').error('(0010,0010) PN [ZQXMARK]', extra={'peer': 'ZQXMARK'})"
    ),
    "a record that cannot be formatted": "logging.getLogger('service').error('%d', 'ZQXMARK'); warnings.warn('x')",
    "an exception that nobody catches": "raise ValueError('ZQXMARK is no date')",
    "an exception in a thread": (
        "import threading\ndef f(): raise KeyError('ZQXMARK')\nt = threading.Thread(target=f); t.start(); t.join()"
    ),
    "a logged exception": (
        "import structlog\ntry:\n    int('ZQXMARK')\nexcept ValueError:\n"
        "    structlog.get_logger('service').exception('failed'); logging.getLogger('service').exception('failed')"
    ),
}


def said(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", SETUP + code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    return run.stdout + run.stderr


@pytest.mark.parametrize("code", SAYING.values(), ids=SAYING.keys())
def test_what_a_library_says_is_logged_without_its_text(code: str) -> None:
    output = said(code)
    assert PATIENT not in output.upper()
    assert '"level"' in output  # that something was said is not lost


def test_without_the_handler_the_same_would_be_read_by_everybody() -> None:
    """The tests above can fail."""
    plain = "import logging; logging.basicConfig(); logging.getLogger('pydicom').warning('value %s', 'ZQXMARK')"
    run = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True, timeout=60)
    assert PATIENT in run.stderr

"""Every advertised syntax decodes here; one that does not is named and refused."""

import subprocess
import sys

import numpy as np
import pytest
from builders import JPEG_LS, make_mr

from reacquire.dicom import read_slice, samples, selfcheck
from reacquire.dicom.syntaxes import SYNTAXES, self_check
from reacquire.errors import ReacquireError

PLUGINS = [uid for uid, syntax in SYNTAXES.items() if syntax.plugin]


@pytest.fixture(autouse=True)
def forgetful():
    """Checks are remembered; each test starts afresh and leaves nothing wrong behind."""
    selfcheck.check_syntax.cache_clear()
    yield
    selfcheck.check_syntax.cache_clear()


def test_everything_that_is_advertised_decodes():
    assert self_check() == {}


@pytest.mark.parametrize("uid", SYNTAXES)
def test_each_sample_is_in_its_syntax_and_shows_the_picture(uid):
    image = read_slice(selfcheck.sample(SYNTAXES[uid]))
    assert np.abs(image.pixels - samples.picture()).max() <= samples.LARGEST_ERROR.get(uid, 0)
    assert bool(image.warnings) == SYNTAXES[uid].lossy


@pytest.mark.parametrize("uid", PLUGINS)
def test_a_decoder_that_gives_wrong_pixels_is_found(uid, monkeypatch):
    monkeypatch.setattr(selfcheck, "decode_words", lambda _: samples.picture().astype(np.int32).T.reshape(32, 36))
    assert self_check()[SYNTAXES[uid].name] == "its decoder gives wrong pixels"


def test_a_syntax_whose_decoder_fails_is_refused_rather_than_broken(monkeypatch):
    monkeypatch.setitem(samples.STREAMS, JPEG_LS, samples.J2K)
    assert list(self_check()) == ["JPEG-LS Lossless"]
    with pytest.raises(ReacquireError) as caught:
        read_slice(make_mr(syntax=JPEG_LS))
    assert caught.value.code == "unsupported-transfer-syntax"


def test_it_is_quick_and_free_of_torch():
    code = (
        "import sys, time, reacquire.dicom.syntaxes as s\n"
        "import reacquire.dicom\n"
        "began = time.process_time()\n"
        "assert s.self_check() == {}\n"
        "assert time.process_time() - began < 1\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

"""Decoders die, hang and swell in a process of their own: the caller gets a code, the next image its pixels."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from builders import J2K, JPEG_LOSSLESS_SV1, JPEG_LS, make_mr, make_pixels

from reacquire.dicom import codec_process, guard, read_slice
from reacquire.dicom.guard import Guard, Order
from reacquire.errors import ReacquireError

ORDER = Order("1.2.840.10008.1.2.4.80", "pyjpegls", 2, 3, 12, False)
WORK = """
import importlib.util, os, time, ctypes
spec = importlib.util.spec_from_file_location("codec_process", {script!r})
codec_process = importlib.util.module_from_spec(spec)
spec.loader.exec_module(codec_process)

def work(order, stream):
    if stream == b"die":
        ctypes.string_at(0)
    if stream == b"abort":
        os.abort()
    if stream == b"sleep":
        time.sleep(60)
    if stream == b"spin":
        while True:
            pass
    if stream == b"swell":
        return bytes(2**30)
    if stream == b"refuse":
        raise ValueError("quotes a header value")
    if stream == b"missing":
        raise LookupError(order["plugin"])
    if stream == b"short":
        return b"\\0" * 11
    if stream == b"leave":
        os._exit(0)
    if stream == b"shout":
        os.write(1, b"x" * 100)
        os.write(2, b"x" * 100)
    if stream == b"secrets":
        return repr(sorted(os.environ)).encode()[:12].ljust(12)
    return os.getpid().to_bytes(12, "little")

codec_process.preload = lambda: None
codec_process.main(work)
"""


@pytest.fixture
def child(tmp_path: Path):
    """A guard whose codec does as the stream says, with a second and a half for it."""
    script = tmp_path / "work.py"
    script.write_text(WORK.format(script=str(guard.SCRIPT)))
    made = Guard([sys.executable, "-P", str(script)], seconds=1.5)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"die", "corrupt-pixels"),
        (b"abort", "corrupt-pixels"),
        (b"refuse", "corrupt-pixels"),
        (b"short", "corrupt-pixels"),
        (b"leave", "corrupt-pixels"),
        (b"sleep", "decompression-limit"),
        (b"spin", "decompression-limit"),
        (b"swell", "decompression-limit"),
        (b"missing", "unsupported-transfer-syntax"),
    ],
)
def test_whatever_a_codec_does_has_a_code_and_the_next_image_is_read(child, stream, code):
    began = time.monotonic()
    with pytest.raises(ReacquireError) as caught:
        child.decompress(ORDER, stream)
    assert caught.value.code == code
    assert "quotes" not in caught.value.detail
    assert len(child.decompress(ORDER, b"fine")) == 12
    assert time.monotonic() - began < 10


def test_every_image_meets_a_fresh_process(child):
    assert child.decompress(ORDER, b"fine") != child.decompress(ORDER, b"fine")


def test_what_codecs_print_does_not_reach_the_replies(child):
    assert len(child.decompress(ORDER, b"shout")) == 12


def test_the_environment_stays_outside(child, monkeypatch):
    monkeypatch.setenv("AAA_PASSWORD", "x")  # sorts first
    assert b"AAA" not in child.decompress(ORDER, b"secrets")


def test_a_child_that_someone_ended_is_replaced(child):
    child.decompress(ORDER, b"fine")
    child._child.kill()
    child._child.wait()
    assert len(child.decompress(ORDER, b"fine")) == 12


def test_a_child_that_cannot_start_is_the_machines_fault():
    with pytest.raises(ReacquireError) as caught:
        Guard([sys.executable, "-c", "raise SystemExit(1)"]).decompress(ORDER, b"")
    assert caught.value.code == "overloaded"


def test_threads_take_turns(child):
    results = []
    threads = [threading.Thread(target=lambda: results.append(child.decompress(ORDER, b"fine"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 6


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS_SV1, JPEG_LS, J2K])
def test_real_codecs_run_in_the_child(syntax):
    pixels = make_pixels(448, 448) & 4095
    assert np.array_equal(read_slice(make_mr(pixels, syntax=syntax)).pixels, pixels)
    assert guard.GUARD._child is not None
    assert guard.GUARD._child.pid != os.getpid()


def test_it_works_where_the_current_folder_is_not_on_the_path(tmp_path):
    """``python -P`` from elsewhere, as the shipped commands run."""
    file = tmp_path / "slice.dcm"
    file.write_bytes(make_mr(syntax=JPEG_LS))
    code = (
        f"import pathlib; from reacquire.dicom import read_slice; "
        f"print(read_slice(pathlib.Path({str(file)!r}).read_bytes()).pixels.max())"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (run.stdout.strip(), run.stderr) == ("3000.0", "")


def test_a_forked_process_gets_a_child_of_its_own(child):
    """Data loaders fork; a shared pipe would mix up their images."""
    mine = child.decompress(ORDER, b"fine")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, child.decompress(ORDER, b"fine"))
        child.close()
        os._exit(0)
    theirs = os.read(reader, 12)
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    assert len(theirs) == 12
    assert theirs != mine
    assert len(child.decompress(ORDER, b"fine")) == 12


def test_memory_and_time_grow_with_the_image():
    assert Order("", "", 448, 448, 12, False).memory < 140 * 2**20
    assert Order("", "", 448, 448, 12, False).seconds < 6
    assert Order("", "", 8192, 4096, 12, False).seconds > 30


def test_the_decoder_of_the_child_agrees_with_pydicom():
    from reacquire.dicom import samples

    order = {"uid": J2K, "plugin": "pylibjpeg", "rows": 32, "columns": 36, "bits": 12, "signed": False}
    words = codec_process.decode(order, samples.stream_of(J2K))
    assert np.array_equal(np.frombuffer(words, "<u2").reshape(32, 36), samples.picture())

"""What ends the caching of a cohort names the file, and leaves nothing that a training would take for a cache."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from reacquire.imaging import Preprocessing
from reacquire.phantom.cohort import write_cohort
from training.cache import build_cache, open_cache
from training.data_commands import cached
from training.ingest import IngestError
from training.ingest.manifest import read_lines

SMALL = Preprocessing(size=32)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(folder, women=1, seed=1, slices_per_woman=1, protocols_per_woman=2, truth=True)
    return folder


@pytest.fixture
def cohort(simulated: Path, tmp_path: Path) -> Path:
    """One woman scanned twice, to be damaged."""
    return shutil.copytree(simulated, tmp_path / "cohort")


def blackened(path: Path) -> None:
    """A sound DICOM file that shows nothing."""
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("key", "damage"),
    [
        ("file", blackened),
        ("file", cut),
        ("file", Path.unlink),
        ("mask", cut),
        ("mask", Path.unlink),
        ("clean", cut),
    ],
)
def test_a_slice_that_can_not_be_used_is_named_with_the_remedy(
    cohort: Path, key: str, damage: Callable[[Path], object]
) -> None:
    file = read_lines(cohort)[1][key]
    damage(cohort / file)
    with pytest.raises(IngestError) as refusal:
        cached(cohort)
    message = str(refusal.value)
    assert message.startswith(f"{file} can't be used (")
    assert 'under "excluded"' in message
    assert str(cohort) not in message
    with pytest.raises(FileNotFoundError):
        open_cache(cohort / "cache")


def test_the_remedy_works(cohort: Path) -> None:
    text = (cohort / "manifest.jsonl").read_text().splitlines()
    blackened(cohort / read_lines(cohort)[1]["file"])
    with pytest.raises(IngestError):
        build_cache(cohort, cohort / "cache", SMALL)
    (cohort / "manifest.jsonl").write_text(f'{text[0]}\n{{"excluded": "shows nothing", {text[1][1:]}\n')
    assert build_cache(cohort, cohort / "cache", SMALL).images.shape == (1, 32, 32)


def test_a_disk_that_is_too_small_is_known_before_any_slice_is_read(
    cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("training.cache.read_slice", lambda *_, **__: pytest.fail("the disk was full before"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(IngestError, match=r"cache: the disk is full; make room and repeat .* from its beginning"):
        cached(cohort)
    assert list((cohort / "cache").iterdir()) == [], "a cache that is not finished takes no room"
    monkeypatch.undo()
    assert len(cached(cohort).rows) == 2


def test_all_of_the_arrays_is_reserved_before_it_is_filled(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve, reserved = os.posix_fallocate, []
    monkeypatch.setattr(os, "posix_fallocate", lambda file, *span: (reserve(file, *span), reserved.append(span)))
    cache = build_cache(cohort, cohort / "cache", SMALL, progress=lambda entries: reserved.append("fill") or entries)
    sizes = [(cohort / "cache" / f"{name}.npy").stat().st_size for name in ("images", "labels", "cleans")]
    assert reserved == [*((0, size) for size in sizes), "fill"]
    assert cache.cleans is not None


def test_the_truths_of_a_build_that_was_broken_off_are_not_taken_for_those_of_the_next(cohort: Path) -> None:
    (cohort / "cache").mkdir()
    np.save(cohort / "cache" / "cleans.npy", np.zeros((7, 32, 32), np.float16))
    lines = (cohort / "manifest.jsonl").read_text().splitlines()
    told = read_lines(cohort)[0]["clean"]
    (cohort / "manifest.jsonl").write_text("\n".join(line.replace(f'"{told}"', "null") for line in lines) + "\n")
    assert build_cache(cohort, cohort / "cache", SMALL).cleans is None

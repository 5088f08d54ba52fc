"""Counterfactual copies of a dataset: whose protocols, which files, and what a kill leaves behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import duke_trees as trees
import nibabel
import numpy as np
import pydicom
import pytest
import redis
from duke_trees import MARGIN, Patient
from obstore.exceptions import GenericError
from tiny_bundle import pack_tiny
from typer.testing import CliRunner

from reacquire.dicom import Limits, read_slice
from reacquire.engine import load_pipeline
from reacquire.iap import load_vocabulary
from reacquire.jobs.intake import Intake
from reacquire.jobs.spec import Options
from training.augment import AugmentError, Request, augment
from training.augment.broker import Broker
from training.augment.ledger import LEDGER, Ledger
from training.augment.makers import Local
from training.augment.outputs import NNUNET
from training.augment.plan import make_plan
from training.cli import app
from training.ingest import Request as IngestRequest
from training.ingest import ingest
from training.ingest.manifest import read_lines, write_lines

GE = {
    "Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "SIGNA HDx", "MagneticFieldStrength": "3",
    "ScanOptions": ["FS"], "EchoTime": "2.4", "RepetitionTime": "5.5",
}  # fmt: skip
SPLITS = {1: "train", 2: "train", 3: "test"}
SLICES = trees.SLICES - 2 * MARGIN


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_tiny(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Siemens and a GE patient to train with, another GE patient to test with whose echo time nobody else has."""
    root = tmp_path_factory.mktemp("data")
    trees.write_patient(root / "in", "classic", Patient(1), ("pre",))
    trees.write_patient(root / "in", "classic", Patient(2, turned=True), ("pre",), **GE)
    trees.write_patient(root / "in", "classic", Patient(3), ("pre",), **{**GE, "EchoTime": "2.6"})
    for n in SPLITS:
        trees.write_nifti(root / "masks", Patient(n))
    ingest(IngestRequest(root / "in", root / "out", margin=MARGIN, masks=root / "masks"))
    lines = read_lines(root / "out")
    write_lines(root / "out", [line | {"split": SPLITS[line["woman"] + 1]} for line in lines])
    return root / "out"


def request(dataset: Path, folder: Path, bundle: Path, **how) -> Request:
    return Request(dataset, folder, bundle, **{"options": Options(steps=1), **how})


def local(dataset: Path):
    return lambda info: Local(load_pipeline(info.folder), dataset, slices=4)


def run(dataset: Path, folder: Path, bundle: Path, *, resume: bool = False, **how):
    return augment(request(dataset, folder, bundle, **how), local(dataset), resume=resume)


def entries(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]


@pytest.fixture(scope="module")
def copies(dataset: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM copy of every training series."""
    folder = tmp_path_factory.mktemp("copies") / "dicom"
    summary = run(dataset, folder, bundle, copies=1)
    assert (summary.slices, summary.made, summary.refused) == (2 * SLICES, 2 * SLICES, {})
    return folder


def test_every_image_says_what_it_is(dataset: Path, bundle: Path, copies: Path) -> None:
    found = entries(copies)
    sha256 = load_pipeline(bundle).bundle.sha256
    series: dict[str, set] = {}
    for entry in found:
        ds = pydicom.dcmread(copies / entry["file"])
        assert ds.SyntheticData == "YES"
        assert float(ds.EchoTime) == pytest.approx(entry["target"]["EchoTime"])
        assert entry["bundle"]["sha256"] == sha256
        assert set(entry["target"]) == set(load_vocabulary().keywords)
        assert (entry["seed"], entry["options"]["steps"]) == (0, 1)
        assert 0 < entry["evidence"]["ssim"][0] <= 1
        source = pydicom.dcmread(dataset / entry["source"])
        np.testing.assert_allclose([float(x) for x in ds.ImagePositionPatient], source.ImagePositionPatient, atol=1e-6)
        stored = ds.pixel_array.astype("<i4").tobytes()
        assert entry["pixels_sha256"] == hashlib.sha256(stored).hexdigest()
        series.setdefault(str(Path(entry["file"]).parent), set()).add(ds.SeriesInstanceUID)
    assert len(series) == 2
    assert {len(uids) for uids in series.values()} == {1}, "a copy is one series"
    assert len(set.union(*series.values())) == 2
    assert len({entry["key"] for entry in found}) == len(found)


def test_targets_are_drawn_from_training_patients_only(dataset: Path, bundle: Path, tmp_path: Path) -> None:
    info = load_pipeline(bundle).bundle
    drawn = make_plan(request(dataset, tmp_path, bundle, copies=30), info).items
    assert {item.target["EchoTime"] for item in drawn} == {
        line["iap"]["EchoTime"] for line in read_lines(dataset) if line["split"] == "train"
    }
    other = make_plan(request(dataset, tmp_path, bundle, copies=5, vendor="other"), info).items
    assert all(item.target["Manufacturer"] != item.line["iap"]["Manufacturer"] for item in other)
    test = make_plan(request(dataset, tmp_path, bundle, split="test", copies=30), info).items
    assert {item.line["patient_id"] for item in test} == {"Breast_MRI_003"}
    assert 2.6 not in {item.target["EchoTime"] for item in test}
    again = make_plan(request(dataset, tmp_path, bundle, copies=30), info).items
    assert [item.key for item in again] == [item.key for item in drawn]


def test_nothing_is_overwritten_and_a_finished_one_is_left_alone(
    dataset: Path, bundle: Path, copies: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in copies.rglob("*")}
    with pytest.raises(AugmentError, match="--resume"):
        run(dataset, copies, bundle, copies=1)
    with pytest.raises(AugmentError, match="other data, weights or options"):
        run(dataset, copies, bundle, copies=2, resume=True)
    summary = augment(request(dataset, copies, bundle, copies=1), lambda _: pytest.fail("all is made"), resume=True)
    assert (summary.made, summary.found) == (0, 2 * SLICES)
    assert {path: path.stat().st_mtime_ns for path in copies.rglob("*")} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(AugmentError, match="not empty"):
        run(dataset, tmp_path / "mine", bundle)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = ["tests/training", "tests"]
import test_augment as here
from training.augment.broker import Broker
from training.augment.ledger import Ledger
add, done = Ledger.add, []
def add_and_die(self, entry):
    add(self, entry)
    done.append(entry)
    if len(done) == int(sys.argv[5]):
        self._path.open("a").write('{"key": "cut o')
        os.kill(os.getpid(), signal.SIGKILL)
Ledger.add = add_and_die
here.run(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), kind=sys.argv[4], copies=1)
"""


@pytest.mark.parametrize("kind", ["dicom", "nnunet"])
def test_a_killed_run_loses_no_slice_and_makes_none_twice(
    kind: str, dataset: Path, bundle: Path, copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, finished = tmp_path / "out", 4
    command = [sys.executable, "-c", KILLED, dataset, folder, bundle, kind, str(finished)]
    died = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, timeout=240)
    assert died.returncode == -signal.SIGKILL
    before = {path: path.read_bytes() for path in (folder / "dicom").rglob("*.dcm")}
    made = []
    local_call = Local.__call__
    monkeypatch.setattr(Local, "__call__", lambda self, items: local_call(self, made.extend(items) or items))
    summary = run(dataset, folder, bundle, kind=kind, copies=1, resume=True)
    assert (summary.found, summary.made) == (finished, 2 * SLICES - finished)
    assert len(made) == 2 * SLICES - finished
    found = entries(folder)
    assert len({entry["key"] for entry in found}) == len(found) == 2 * SLICES
    digests = [{entry["key"]: entry["pixels_sha256"] for entry in entries(root)} for root in (folder, copies)]
    assert digests[0] == digests[1], "equal to the run that nobody killed"
    if kind == "dicom":
        assert all(path.read_bytes() == data for path, data in before.items())
        for entry in found:  # equal to the run that nobody killed
            pixels = [pydicom.dcmread(root / entry["file"]).pixel_array for root in (folder, copies)]
            assert np.array_equal(*pixels)
    else:
        assert not (folder / "slices").exists()
        assert len(list((folder / NNUNET / "imagesTr").iterdir())) == 4


def test_volumes_lie_where_the_slices_lay(dataset: Path, bundle: Path, copies: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "out", bundle, kind="nifti", copies=1)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["augment.json", LEDGER, "nifti"]
    for entry in entries(tmp_path / "out"):
        volume = nibabel.load(tmp_path / "out" / entry["file"])
        same = next(e for e in entries(copies) if e["key"] == entry["key"])
        slice_ = read_slice((copies / same["file"]).read_bytes(), allow_synthetic=True)
        position = entry["slice"] - MARGIN
        assert np.array_equal(np.asarray(volume.dataobj)[..., position].T, slice_.pixels)
        corner = volume.affine @ [0, 0, position, 1]
        np.testing.assert_allclose(corner[:3] * [-1, -1, 1], slice_.header.geometry.ipp, atol=1e-3)
        along_row = volume.affine[:3, 0] * [-1, -1, 1] / slice_.header.geometry.spacing[1]
        np.testing.assert_allclose(along_row, slice_.header.geometry.iop[:3], atol=1e-4)


def test_an_nnunet_dataset_has_originals_copies_and_their_labels(dataset: Path, bundle: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "out", bundle, kind="nnunet")
    root = tmp_path / "out" / NNUNET
    description = json.loads((root / "dataset.json").read_text())
    assert (description["numTraining"], description["file_ending"]) == (4, ".nii.gz")
    cases = {p.name.removesuffix("_0000.nii.gz") for p in (root / "imagesTr").iterdir()}
    assert cases == {p.name.removesuffix(".nii.gz") for p in (root / "labelsTr").iterdir()}
    patients = json.loads((root / "patients.json").read_text())
    assert {len(names) for names in patients.values()} == {2}
    assert set().union(*patients.values()) == cases
    truth = trees.truth()[MARGIN:-MARGIN]
    for name in cases:
        image, label = (
            nibabel.load(root / folder / f"{name}{end}.nii.gz")
            for folder, end in (("imagesTr", "_0000"), ("labelsTr", ""))
        )
        assert image.shape == label.shape == (64, 64, SLICES)
        np.testing.assert_array_equal(image.affine, label.affine)
        stored = np.asarray(label.dataobj).T
        turned = label.affine[0, 0] > 0
        assert np.array_equal(stored[:, ::-1, ::-1] if turned else stored, truth)


def test_a_slice_that_cannot_be_made_is_named_and_the_rest_goes_on(
    dataset: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reacquire.engine import Pipeline
    from reacquire.errors import PixelError

    prepare, seen = Pipeline.prepare, []

    def refuse_the_second(self, spec, files):
        seen.append(spec)
        if len(seen) == 2:
            raise PixelError("all pixels are equal", code="degenerate-image")
        return prepare(self, spec, files)

    monkeypatch.setattr(Pipeline, "prepare", refuse_the_second)
    summary = run(dataset, tmp_path / "out", bundle, kind="nifti")
    assert summary.refused == {"degenerate-image": 1}
    refused = [entry for entry in entries(tmp_path / "out") if entry["refused"]]
    assert [(entry["file"], entry["pixels_sha256"]) for entry in refused] == [(None, None)]
    volumes = [nibabel.load(path).shape[2] for path in (tmp_path / "out" / "nifti").iterdir()]
    assert sorted(volumes) == [SLICES - 1, SLICES]


def test_a_full_disk_is_one_message(
    dataset: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.ingest import IngestError

    add, done = Ledger.add, []

    def fills_up(self, entry):
        done.append(entry)
        if len(done) == 3:
            raise OSError(28, "No space left on device")
        add(self, entry)

    monkeypatch.setattr(Ledger, "add", fills_up)
    with pytest.raises(IngestError, match=r"the disk is full; make room .* --resume"):
        run(dataset, tmp_path / "out", bundle)
    monkeypatch.undo()
    assert run(dataset, tmp_path / "out", bundle, resume=True).found == 2


def test_requests_that_make_no_sense(dataset: Path, bundle: Path, tmp_path: Path) -> None:
    for how, message in (
        ({"split": "val"}, "no slice of the split 'val'"),
        ({"vendor": "PHILIPS"}, "no vendor 'PHILIPS'"),
        ({"kind": "png"}, "no format 'png'"),
    ):
        with pytest.raises(AugmentError, match=message):
            run(dataset, tmp_path / "out", bundle, **how)
    with pytest.raises(AugmentError, match="no sound bundle"):
        run(dataset, tmp_path / "out", tmp_path)
    result = CliRunner().invoke(app, ["augment", str(dataset), str(tmp_path / "out"), "--vendor", "PHILIPS"])
    assert result.exit_code == 1
    assert "error:" in result.output


def test_the_command_line(dataset: Path, bundle: Path, tmp_path: Path) -> None:
    words = ["augment", str(dataset), str(tmp_path / "out"), "--bundle", str(bundle), "--steps", "1"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert f"{2 * SLICES} slices made, 0 were there" in result.output


class Workers:
    """In place of the message queue: a worker that does a job the moment it is announced."""

    def __init__(self, pipeline, store, blobs) -> None:
        from reacquire.jobs.leases import Leases
        from worker.batching import BatchPolicy
        from worker.metrics import WorkerMetrics
        from worker.runner import Runner

        policy = BatchPolicy(items=16, budget=10**12)
        self.runner = Runner("w", pipeline, store, blobs, Leases(store), policy, WorkerMetrics(), lambda _: None)
        self.entered: list[str] = []

    def publish(self, ids, **_) -> None:
        self.entered += ids
        self.runner.handle(list(ids))


def test_workers_give_what_this_process_gives_and_a_resumed_run_meets_their_jobs(
    dataset: Path,
    bundle: Path,
    copies: Path,
    tmp_path: Path,
    store,
    blobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers(load_pipeline(bundle), store, blobs)
    intake = Intake(store, blobs, workers, load_vocabulary(), Limits())

    def broker(info):
        return Broker(intake, dataset, info, in_flight=3, patience_s=20)

    add, done = Ledger.add, []

    def break_off(self, entry):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(entry)
        add(self, entry)

    asked = request(dataset, tmp_path / "out", bundle, copies=1)
    monkeypatch.setattr(Ledger, "add", break_off)
    with pytest.raises(KeyboardInterrupt):
        augment(asked, broker)
    monkeypatch.undo()
    first = len(workers.entered)
    assert first >= 3
    summary = augment(asked, broker, resume=True)
    assert (summary.found, summary.made) == (2, 2 * SLICES - 2)
    assert len(set(workers.entered)) == len(workers.entered) == 2 * SLICES, "no slice is made twice"
    for entry in entries(tmp_path / "out"):
        assert entry["made_by"] == "broker"
        files = [BytesIO((root / entry["file"]).read_bytes()) for root in (tmp_path / "out", copies)]
        one, two = (pydicom.dcmread(file) for file in files)
        assert np.array_equal(one.pixel_array, two.pixel_array)
        assert one.SOPInstanceUID == two.SOPInstanceUID


def test_workers_with_other_weights_are_found_out(
    dataset: Path,
    bundle: Path,
    tmp_path: Path,
    store,
    blobs,
) -> None:
    other = pack_tiny(tmp_path / "other", name="other")
    workers = Workers(load_pipeline(other), store, blobs)
    intake = Intake(store, blobs, workers, load_vocabulary(), Limits())
    with pytest.raises(AugmentError, match="the workers serve other, not tiny"):
        augment(request(dataset, tmp_path / "out", bundle), lambda info: Broker(intake, dataset, info))


class DropsOut:
    """A job store or its files, out of reach at one ``get``."""

    def __init__(self, whole, at: int, error: Exception) -> None:
        self._whole, self._left, self._error = whole, at, error

    def __getattr__(self, name: str):
        return getattr(self._whole, name)

    def get(self, key: str):
        self._left -= 1
        if self._left == 0:
            raise self._error
        return self._whole.get(key)


@pytest.mark.parametrize("lost", ["state", "record", "files"])
def test_a_broker_that_drops_out_is_one_message_and_the_run_goes_on(
    lost: str, dataset: Path, bundle: Path, tmp_path: Path, store, blobs
) -> None:
    workers = Workers(load_pipeline(bundle), store, blobs)
    at = {"state": 3, "record": 4, "files": 3}[lost]  # of the second slice: each has a state, a record, and two files
    jobs = store if lost == "files" else DropsOut(store, at, redis.exceptions.ConnectionError())
    files = DropsOut(blobs, at, GenericError("gone")) if lost == "files" else blobs
    intake = Intake(jobs, files, workers, load_vocabulary(), Limits())
    asked = request(dataset, tmp_path / "out", bundle, copies=1)

    def broker(info):
        return Broker(intake, dataset, info, in_flight=1, patience_s=20)

    with pytest.raises(AugmentError, match=r"broker cannot be reached .*see that it runs.*--resume"):
        augment(asked, broker)
    summary = augment(asked, broker, resume=True)
    assert (summary.found, summary.made) == (1, 2 * SLICES - 1)
    assert len(set(workers.entered)) == len(workers.entered) == 2 * SLICES, "no slice is made twice"

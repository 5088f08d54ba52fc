"""Counterfactuals as augmentations: what is drawn, what is kept, what the rest of the pipeline sees."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose
from tiny_bundle import pack_tiny

from reacquire.errors import TargetError
from reacquire.jobs.spec import OperationSpec, Options
from reacquire.transforms import Axes, EditStore, IAPEditor, RandIAPCounterfactuald, TargetPool
from reacquire.transforms.editor import noise_of_image

GE = {"Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "SIGNA HDx", "EchoTime": 2.4}
SIEMENS = {"Manufacturer": "SIEMENS", "ManufacturerModelName": "Avanto", "EchoTime": 1.4}
ONE_STEP = Options(steps=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_tiny(tmp_path_factory.mktemp("bundle"), unseen={"ManufacturerModelName": ["Trio"]})


def picture(seed: int = 0, shape: tuple[int, ...] = (40, 48)) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 60.0, shape).astype(np.float32)


def transform(bundle: Path, **how) -> RandIAPCounterfactuald:
    how = {"prob": 1.0, "options": ONE_STEP, **how}
    return RandIAPCounterfactuald("image", bundle, how.pop("targets", [GE, SIEMENS]), **how)


@pytest.mark.parametrize("codes", ["PL", "AL", "LP", "RA", "PLS", "RAS", "SLP", "IPR"])
def test_axes_go_to_the_canonical_view_and_back(codes: str) -> None:
    array = picture(shape=(3, 4, 5)[: len(codes)])
    stack = Axes(codes).to_slices(array)
    assert np.array_equal(Axes(codes).from_slices(stack), array)
    # a value that grows towards posterior along its own axis grows along the rows of the stack
    for letter, axis in (("P", 1), ("L", 2)):
        here = next(i for i, c in enumerate(codes) if c in {"P": "PA", "L": "LR"}[letter])
        ramp = np.moveaxis(np.broadcast_to(np.arange(array.shape[here]), np.moveaxis(array, here, -1).shape), -1, here)
        ramp = ramp if codes[here] == letter else -ramp
        assert (np.diff(Axes(codes).to_slices(ramp), axis=axis) == 1).all()


def test_axes_follow_the_affine_and_refuse_other_planes() -> None:
    oblique = np.array([[0.02, -0.9, 0.1, 5], [-1.0, 0.01, 0.0, 3], [0.0, 0.1, 2.0, -7], [0, 0, 0, 1]])
    assert Axes.of_affine(oblique, 3).codes == "PLS"
    assert Axes.of_affine(oblique, 2).codes == "PL"
    assert Axes.of_affine(np.diag([1.0, 1, 2, 1]), 3).codes == "RAS"
    assert Axes.of_affine(np.eye(4), 2).codes == "PL"
    with pytest.raises(ValueError, match="axial"):
        Axes.of_affine(np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]), 2)


def test_the_editor_gives_what_the_service_gives(bundle: Path) -> None:
    from io import BytesIO

    from builders import make_dataset
    from pydicom import dcmwrite

    from reacquire.dicom import read_slice
    from reacquire.engine import load_pipeline
    from reacquire.engine.seeds import slice_seed

    stream = BytesIO()
    dcmwrite(stream, make_dataset(), enforce_file_format=True)
    pipeline = load_pipeline(bundle)
    spec = OperationSpec(operation="counterfactual", target=GE, options=ONE_STEP)
    work = pipeline.prepare(spec, [stream.getvalue()])
    (raw,) = pipeline.run([work])
    served = read_slice(pipeline.finish(work, raw).artifacts["counterfactual.dcm"], allow_synthetic=True).canonical()
    slice_ = work.slices[0]
    edited, target = IAPEditor(bundle, options=ONE_STEP).edit(
        slice_.canonical()[None], GE, seed=slice_seed(0, slice_), source=slice_.iap
    )
    assert target == dict(raw.target.values)
    rounded = np.abs(np.clip(edited[0], *slice_.stored_range) - served)
    assert rounded.max() < 0.501, "served is what was edited, rounded; a half may go either way"
    assert not np.array_equal(served, slice_.canonical())


def test_random_numbers_are_the_transforms_own(bundle: Path) -> None:
    images = [{"image": picture(i)[None]} for i in range(6)]

    def drawn(seed: int) -> list:
        one = transform(bundle, prob=0.5, seeds=3).set_random_state(seed)
        return [(d["image_counterfactual"], d["image_iap"]["EchoTime"], d["image"].tobytes()) for d in map(one, images)]

    first = drawn(7)
    np.random.seed(0)
    assert drawn(7)[0][2] == first[0][2]
    assert [d[:1] for d in drawn(7)] == [d[:1] for d in first]
    assert [d[2] for d in drawn(7)] == [d[2] for d in first]
    assert {flag for flag, _, _ in first} == {True, False}
    assert [d[2] for d in drawn(8)] != [d[2] for d in first]


def test_labels_metadata_and_types_stay(bundle: Path) -> None:
    affine = torch.tensor([[-0.7, 0, 0, 9], [0, -0.7, 0, 8], [0, 0, 2.0, 7], [0, 0, 0, 1]], dtype=torch.float64)
    image = MetaTensor(torch.from_numpy(picture()[None]).round().to(torch.int16), affine=affine, meta={"name": "x"})
    label = torch.arange(40 * 48).reshape(1, 40, 48)
    item = {"image": image, "label": label, "iap": SIEMENS}
    result = transform(bundle, targets=[GE], source_key="iap")(item)
    assert result["label"] is label
    assert item["image"] is image
    assert isinstance(result["image"], MetaTensor)
    assert result["image"].meta["name"] == "x"
    assert torch.equal(result["image"].affine, affine)
    assert result["image"].dtype == torch.int16
    assert result["image_counterfactual"]
    assert (result["image"] != image).float().mean() > 0.5
    iap = result["image_iap"]
    assert (iap["ManufacturerModelName"], iap["EchoTime"]) == ("SIGNA HDx", 2.4)
    assert len(iap) == 8


def test_an_item_that_is_left_alone_keeps_its_own_parameters(bundle: Path) -> None:
    result = transform(bundle, prob=0.0, source_key="iap")({"image": picture()[None], "iap": SIEMENS})
    assert np.array_equal(result["image"], picture()[None])
    assert not result["image_counterfactual"]
    assert result["image_iap"]["ManufacturerModelName"] == "Avanto"
    assert np.isnan(result["image_iap"]["FlipAngle"])
    assert result["image_iap"]["ScanOptions"] == ""


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_an_item_without_the_source_key_is_refused_by_its_name(bundle: Path, prob: float) -> None:
    with pytest.raises(KeyError, match="'scanned_with', the source_key"):
        transform(bundle, prob=prob, source_key="scanned_with")({"image": picture()[None], "iap": SIEMENS})


def test_a_volume_is_edited_slice_by_slice(bundle: Path) -> None:
    slices = [picture(i) for i in range(3)]
    volume = np.stack([*slices, np.zeros_like(slices[0])], axis=-1)[None]
    how = {"targets": [{**GE, **{k: v for k, v in COMPLETE.items() if k not in GE}}], "options": Options(noise=False)}
    edited = transform(bundle, **how)({"image": volume})["image"]
    for i, one in enumerate(slices):
        alone = transform(bundle, **how)({"image": one[None]})["image"]
        np.testing.assert_allclose(edited[..., i], alone, rtol=1e-5, atol=4e-3)  # of 250: sums in another order
    assert not edited[..., 3].any()  # nothing to see, nothing changed


COMPLETE = {"MagneticFieldStrength": 1.5, "ScanOptions": "FS", "FlipAngle": 10.0, "SliceThickness": 2.0,
            "RepetitionTime": 5.0}  # fmt: skip


def test_two_images_under_one_seed_have_noise_of_their_own() -> None:
    first, second = picture(0)[None], picture(1)[None]
    assert noise_of_image(0, first) != noise_of_image(0, second)
    assert noise_of_image(0, first) != noise_of_image(1, first)
    assert noise_of_image(0, first) == noise_of_image(0, 0.01 * first - 3)


def test_the_scale_of_the_intensities_does_not_matter(bundle: Path) -> None:
    one = transform(bundle, targets=[GE])({"image": picture()[None]})["image"]
    other = transform(bundle, targets=[GE])({"image": (0.01 * picture() - 3)[None]})["image"]
    np.testing.assert_allclose(100 * (other + 3), one, rtol=1e-3, atol=0.5)


def test_finished_edits_are_found_again(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = transform(bundle, targets=[GE], store=tmp_path)({"image": picture()[None]})
    (kept,) = tmp_path.rglob("*.npz")
    monkeypatch.setattr(IAPEditor, "_edit", lambda *_: pytest.fail("the store was not asked"))
    again = transform(bundle, targets=[GE], store=tmp_path)({"image": picture()[None]})
    assert np.array_equal(first["image"], again["image"])
    assert first["image_iap"] == again["image_iap"]
    monkeypatch.undo()
    kept.write_bytes(kept.read_bytes()[:100])  # cut off: made again
    mended = transform(bundle, targets=[GE], store=tmp_path)({"image": picture()[None]})
    assert np.array_equal(first["image"], mended["image"])
    for change in ({"seeds": 1, "targets": [SIEMENS]}, {"source": SIEMENS}, {"options": Options(steps=1, noise=True)}):
        transform(bundle, **{"targets": [GE], "store": tmp_path, **change})({"image": picture()[None]})
    assert len(list(tmp_path.rglob("*.npz"))) == 4
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="is full"):
        EditStore(tmp_path).put("ab", picture(), {})
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_load_the_networks_themselves(bundle: Path, tmp_path: Path, context: str) -> None:
    items = [{"image": torch.from_numpy(picture(i)[None]), "label": i} for i in range(4)]
    chain = Compose([transform(bundle, targets=[GE], store=tmp_path)]).set_random_state(3)
    loader = DataLoader(Dataset(items, chain), batch_size=2, num_workers=2, multiprocessing_context=context)
    with_workers = torch.cat([batch["image"] for batch in loader])
    alone = torch.stack([torch.as_tensor(chain(item)["image"]) for item in items])
    torch.testing.assert_close(with_workers, alone)
    assert len(list(tmp_path.rglob("*.npz"))) == 4


def test_it_travels_as_a_few_strings(bundle: Path) -> None:
    one = transform(bundle)
    one({"image": picture()[None]})
    assert len(pickle.dumps(one)) < 20_000


def test_targets_that_the_bundle_cannot_show_are_refused_at_once(bundle: Path) -> None:
    with pytest.raises(TargetError, match="never shown"):
        transform(bundle, targets=[{"ManufacturerModelName": "Trio"}])
    with pytest.raises(TargetError, match="must be"):
        transform(bundle, targets=[{"EchoTime": 900.0}])
    with pytest.raises(ValueError, match=r"\(1, H, W\)"):
        transform(bundle)({"image": np.zeros((2, 8, 8), np.float32)})


def test_a_pool_is_drawn_from_training_patients_only(tmp_path: Path) -> None:
    rows = [
        *({"split": "train", "patient_id": "a", "iap": GE} for _ in range(8)),
        {"split": "train", "patient_id": "b", "iap": SIEMENS},
        {"split": "train", "patient_id": "b", "iap": {**SIEMENS, "EchoTime": 1.5}},
        {"split": "test", "patient_id": "c", "iap": {**SIEMENS, "EchoTime": 1.6}},
        {"split": "train", "patient_id": "d", "iap": {**SIEMENS, "EchoTime": 1.7}, "excluded": "edge"},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps(r) for r in rows))
    pool = TargetPool.from_manifest(manifest)
    shares = {r["EchoTime"]: w for r, w in zip(pool.records, pool.weights, strict=True)}
    assert shares == {2.4: 1.0, 1.4: 0.5, 1.5: 0.5}  # by patient, not by slice
    drawn = [pool.draw(u)["EchoTime"] for u in (np.arange(100) + 0.5) / 100]
    assert (drawn.count(2.4), drawn.count(1.4), drawn.count(1.5)) == (50, 25, 25)
    siemens = TargetPool.from_manifest(manifest, Manufacturer="SIEMENS")
    assert {r["EchoTime"] for r in siemens.records} == {1.4, 1.5}
    assert TargetPool.of([GE, SIEMENS]).without({"ManufacturerModelName": ["Avanto"]}).records == (GE,)
    with pytest.raises(ValueError, match="no training patient"):
        TargetPool.from_manifest(manifest, Manufacturer="PHILIPS")
    with pytest.raises(ValueError, match="at least one"):
        TargetPool.of([])


def test_torchio_does_the_same(bundle: Path) -> None:
    tio = pytest.importorskip("torchio")
    from reacquire.transforms.torchio import RandomIAPCounterfactual

    volume = torch.from_numpy(picture(shape=(40, 36, 2))[None])
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])  # LAS
    subject = tio.Subject(
        mr=tio.ScalarImage(tensor=volume, affine=affine),
        seg=tio.LabelMap(tensor=(volume > 100).to(torch.uint8), affine=affine),
        iap=SIEMENS,
    )
    random = RandomIAPCounterfactual(bundle, [GE], source_key="iap", options=ONE_STEP, p=1)
    result = random(subject)
    expected = transform(bundle, targets=[GE], source_key="iap", axes="LAS")({"image": volume, "iap": SIEMENS})
    torch.testing.assert_close(result.mr.data, expected["image"])
    assert result["mr_iap"]["ManufacturerModelName"] == "SIGNA HDx"
    assert torch.equal(result.seg.data, subject.seg.data)
    assert not torch.equal(result.mr.data, subject.mr.data)
    assert torch.equal(result.history[0](subject).mr.data, result.mr.data)  # the history repeats it

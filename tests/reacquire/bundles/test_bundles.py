"""A bundle loads only when every byte of it is what its manifest says."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_bundle import LICENCE, MODELS, pack_tiny, tiny_run

from reacquire.bundles import BundleStore
from reacquire.bundles.load import load_bundle
from reacquire.bundles.manifest import MANIFEST_NAME, file_sha256
from reacquire.bundles.store import open_bundle
from reacquire.errors import BundleError
from training.pack import DIRECT, Card, pack_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return pack_tiny(tmp_path)


def edit_manifest(bundle: Path, change) -> None:
    path = bundle / MANIFEST_NAME
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def rehash(bundle: Path, name: str) -> None:
    edit_manifest(bundle, lambda m: m["files"].update({name: file_sha256(bundle / name)}))


def test_a_packed_bundle_loads(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.info.name == "tiny"
    assert not loaded.editor.training
    assert not any(p.requires_grad for p in loaded.segmenter.parameters())


def test_a_bundle_may_have_a_tone_network(bundle: Path, tmp_path: Path) -> None:
    assert load_bundle(bundle).tone is None
    loaded = load_bundle(pack_tiny(tmp_path / "toned", tone=True))
    assert loaded.tone is not None
    assert not loaded.tone.training
    assert "models/tone.safetensors" in loaded.info.manifest.files


def test_a_tone_network_follows_no_diffusion(tmp_path: Path) -> None:
    toned, paper = pack_tiny(tmp_path / "toned", tone=True), pack_tiny(tmp_path / "paper", "sdedit")
    editing = json.loads((paper / MANIFEST_NAME).read_text())["editing"]
    edit_manifest(toned, lambda m: m.update(editing=editing))
    with pytest.raises(BundleError, match="follows a direct editor"):
        open_bundle(toned)


def test_a_tone_network_is_packed_with_the_segmenter_that_it_goes_by(tmp_path: Path) -> None:
    runs = {model: tiny_run(tmp_path / model, model) for model in MODELS}
    runs["tone"] = tiny_run(tmp_path / "tone", "tone", segmenter="f" * 64)
    card = Card("x", "0.0.1", "", "2026-01-01")
    with pytest.raises(ValueError, match="another segmenter"):
        pack_bundle(tmp_path / "x", card, runs, DIRECT, metrics={}, licence_file=LICENCE)
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / ".x.part").exists()


def test_packing_is_deterministic(tmp_path: Path) -> None:
    first, second = (open_bundle(pack_tiny(tmp_path / x)) for x in "ab")
    assert first.sha256 == second.sha256


def test_a_bundle_is_never_packed_over(bundle: Path) -> None:
    with pytest.raises(FileExistsError):
        pack_tiny(bundle.parent)


def test_an_altered_file_is_named(bundle: Path) -> None:
    weights = bundle / "models" / "editor.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(BundleError, match=r"editor\.safetensors.*hash"):
        open_bundle(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "models" / "segmenter.safetensors").unlink()
    with pytest.raises(BundleError, match=r"segmenter\.safetensors is missing"):
        open_bundle(bundle)


def test_a_stray_file_is_named(bundle: Path) -> None:
    (bundle / "models" / "model.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(BundleError, match=r"model\.pt is not listed"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(surprise=1),
        lambda m: m["editing"].update(surprise=1),
        lambda m: m.pop("licence"),
        lambda m: m.update(format="reacquire-bundle/9"),
        lambda m: m["files"].update({"../../etc/passwd": "0" * 64}),
        lambda m: m["networks"]["segmenter"].update(file="../evil.safetensors"),
        lambda m: m["editing"].update(method="paired"),
        lambda m: m["editing"].update(noise=5000),
    ],
    ids=["key", "nested-key", "missing-key", "format", "path-outside", "weights-unhashed", "method", "noise"],
)
def test_a_manifest_off_the_schema_is_refused(bundle: Path, change) -> None:
    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=MANIFEST_NAME):
        open_bundle(bundle)


@pytest.mark.parametrize("pin", ["vocabulary", "preprocessing"])
def test_another_edition_of_a_pin_is_refused(bundle: Path, pin: str) -> None:
    edit_manifest(bundle, lambda m: m[pin].update(sha256="0" * 64))
    with pytest.raises(BundleError, match=f"another edition of the {pin}"):
        load_bundle(bundle)


def test_an_unknown_network_key_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["networks"]["editor"]["config"].update(surprise=1))
    with pytest.raises(BundleError, match="surprise"):
        load_bundle(bundle)


@pytest.mark.parametrize("network", ["editor", "predictor"])
def test_networks_of_another_layout_are_refused(bundle: Path, network: str) -> None:
    def change(manifest: dict) -> None:
        config = manifest["networks"][network]["config"]
        config.update(parameter_widths=[8, 2, 9, 1, 1, 1, 1]) if network == "editor" else config.update(outputs=23)

    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match="another layout"):
        load_bundle(bundle)


def test_a_wrong_parameter_count_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: m["networks"]["segmenter"].update(parameters=7))
    with pytest.raises(BundleError, match="parameters"):
        load_bundle(bundle)


def test_weights_that_are_no_safetensors_are_named(bundle: Path) -> None:
    name = "models/predictor.safetensors"
    (bundle / name).write_bytes(b"\x80\x04.")
    rehash(bundle, name)
    with pytest.raises(BundleError, match="no safetensors"):
        load_bundle(bundle)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(bundle: Path) -> None:
    name = "models/segmenter.safetensors"
    tensors = load_file(bundle / name)
    key = next(k for k, v in tensors.items() if v.ndim == 4)
    shape = tuple(tensors[key].shape)
    save_file({**tensors, key: tensors[key][:1].contiguous()}, bundle / name)
    rehash(bundle, name)
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    assert key in str(caught.value) and str(shape) in str(caught.value)


@pytest.mark.parametrize("kind", ["lacks", "holds"])
def test_a_tensor_too_few_or_too_many_is_named(bundle: Path, kind: str) -> None:
    name = "models/predictor.safetensors"
    tensors = load_file(bundle / name)
    if kind == "lacks":
        tensors.pop("fc.bias")
    else:
        tensors["extra"] = tensors["fc.bias"].clone()
    save_file(tensors, bundle / name)
    rehash(bundle, name)
    with pytest.raises(BundleError, match=f"{kind} (fc.bias|extra)"):
        load_bundle(bundle)


def test_the_store_lists_what_is_there(bundle: Path) -> None:
    assert [b.ref.label for b in BundleStore(bundle.parent).inventory().sound] == ["tiny@0.0.1"]


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        open_bundle(tmp_path)

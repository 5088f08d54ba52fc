"""Several bundles side by side: what counts, what is refused by name, and how bundles come into the folder."""

import json
import shutil
from pathlib import Path

import pytest
from hollow_bundle import hollow_bundle

from reacquire.bundles import BundleStore
from reacquire.bundles.manifest import MANIFEST_NAME
from reacquire.bundles.pull import pull_bundle
from reacquire.errors import BundleError


def labels(root: Path, **how) -> list[str]:
    return [info.ref.label for info in BundleStore(root, **how).inventory().sound]


def test_versions_stand_side_by_side_in_their_order(tmp_path):
    for label in ("b@0.10.0", "b@0.9.0", "a@1.0.0"):
        hollow_bundle(tmp_path, label)
    assert labels(tmp_path) == ["a@1.0.0", "b@0.9.0", "b@0.10.0"]


def test_an_altered_bundle_is_refused_by_name_and_the_others_go_on(tmp_path):
    hollow_bundle(tmp_path, "a@1.0.0")
    broken = hollow_bundle(tmp_path, "a@2.0.0")
    assert labels(tmp_path) == ["a@1.0.0", "a@2.0.0"]  # and from here on it is known to be sound
    (broken / "models" / "editor.safetensors").write_text("other weights")
    inventory = BundleStore(tmp_path).inventory()
    assert [info.ref.label for info in inventory.sound] == ["a@1.0.0"]
    (refused,) = inventory.refused
    assert refused.folder == "a-2.0.0"
    assert "editor.safetensors" in refused.reason
    with pytest.raises(BundleError, match=r"no sound bundle a@2\.0\.0.*a-2\.0\.0 is refused.*editor\.safetensors"):
        inventory.find("a@2.0.0")


def test_two_bundles_under_one_label_count_for_nothing_and_a_copy_counts_once(tmp_path):
    hollow_bundle(tmp_path, "a@1.0.0", folder="one")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert labels(tmp_path) == ["a@1.0.0"]
    hollow_bundle(tmp_path, "a@1.0.0", folder="two", weights="others")
    inventory = BundleStore(tmp_path).inventory()
    assert inventory.sound == ()
    assert all("calls itself a@1.0.0 too" in refused.reason for refused in inventory.refused)


def test_a_folder_beside_the_store_belongs_to_it_and_is_listed_once(tmp_path):
    root = tmp_path / "root"
    inside, outside = hollow_bundle(root, "a@1.0.0"), hollow_bundle(tmp_path / "out", "b@1.0.0")
    assert labels(root, also=(inside, outside, tmp_path / "nowhere")) == ["a@1.0.0", "b@1.0.0"]


@pytest.mark.parametrize("label", ["a", "a@1", "a@1.0.0 ", "../a@1.0.0", "A@1.0.0"])
def test_what_is_no_label_is_not_looked_for(tmp_path, label):
    with pytest.raises(BundleError, match="NAME@VERSION"):
        BundleStore(tmp_path).inventory().find(label)


def test_a_missing_folder_is_an_empty_store(tmp_path):
    with pytest.raises(BundleError, match="there are: none"):
        BundleStore(tmp_path / "nothing").inventory().find("a@1.0.0")


def test_a_pulled_bundle_is_whole_and_pulling_again_changes_nothing(tmp_path):
    source, root = hollow_bundle(tmp_path / "bucket", "a@1.0.0", folder="any"), tmp_path / "root"
    info, fetched = pull_bundle(source.as_uri(), root)
    assert (info.folder, fetched) == (root / "a-1.0.0", True)
    assert pull_bundle(source.as_uri(), root)[1] is False
    assert [path.name for path in root.iterdir()] == ["a-1.0.0"]
    assert labels(root) == ["a@1.0.0"]


def damage_hash(source: Path) -> None:
    (source / "models" / "editor.safetensors").write_text("cut")


def damage_absence(source: Path) -> None:
    (source / "models" / "editor.safetensors").unlink()


def damage_manifest(source: Path) -> None:
    (source / MANIFEST_NAME).unlink()


def damage_path(source: Path) -> None:
    manifest = json.loads((source / MANIFEST_NAME).read_text())
    manifest["files"]["../../evil"] = "0" * 64
    (source / MANIFEST_NAME).write_text(json.dumps(manifest))


@pytest.mark.parametrize("damage", [damage_hash, damage_absence, damage_manifest, damage_path])
def test_a_damaged_bundle_never_enters_the_store(tmp_path, damage):
    source, root = hollow_bundle(tmp_path / "bucket"), tmp_path / "root"
    damage(source)
    with pytest.raises(BundleError):
        pull_bundle(source.as_uri(), root)
    assert list(root.iterdir()) == []


def test_another_bundle_of_the_same_version_is_never_overwritten(tmp_path):
    root = tmp_path / "root"
    pull_bundle(hollow_bundle(tmp_path / "a").as_uri(), root)
    with pytest.raises(BundleError, match="never overwritten"):
        pull_bundle(hollow_bundle(tmp_path / "b", weights="others").as_uri(), root)
    assert labels(root) == ["hollow@0.0.1"]


def test_an_object_store_out_of_reach_is_named_without_its_own_words(tmp_path):
    with pytest.raises(BundleError, match="cannot be read") as caught:
        pull_bundle("nosuch://bucket/a", tmp_path)
    assert caught.value.code == "model-unavailable"

"""Splits by patient: shares, strata, rare categories, and nobody twice."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from training.cli import app
from training.ingest import IngestError
from training.ingest.manifest import LINE, read_lines, write_lines
from training.split import PAPER_SEED, UNSPLIT, check_disjoint, split_manifest, stratify

MODELS = (
    ("Avanto", 1.5, "PFP\\FS"),
    ("Skyra", 3.0, "PFP\\SFS"),
    ("SIGNA HDx", 3.0, "FS"),
    ("TrioTim", 3.0, "PFP\\SFS"),
)
SHARES = (0.4, 0.3, 0.2, 0.1)


def write_cohort(folder: Path, *, count: int = 400, masked: int = 100, rare: int = 2) -> None:
    """Patients of four kinds with unequal shares; the first ``rare`` ones have a scanner of their own."""
    rng = np.random.default_rng(0)
    lines = []
    for n in range(count):
        model, field, options = MODELS[rng.choice(4, p=SHARES)]
        model = "SIGNA EXCITE" if n < rare else model
        iap = {"ManufacturerModelName": model, "MagneticFieldStrength": field, "ScanOptions": options}
        base = LINE | {"patient_id": f"Breast_MRI_{n:03d}", "woman": n, "iap": iap}
        mask = "m.png" if n >= count - masked else None
        lines += [base | {"file": f"{n}-{i}.dcm", "slice": i, "mask": mask} for i in range(2)]
        lines.append(base | {"slice": 2, "excluded": "edge-slice"})
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder, lines)


def splits(folder: Path) -> dict[str, set]:
    lines = [line for line in read_lines(folder) if not line["excluded"]]
    return {s: {line["patient_id"] for line in lines if line["split"] == s} for s in ("train", "val", "test")}


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_shares_and_strata(mode: str, tmp_path: Path) -> None:
    write_cohort(tmp_path)
    report = split_manifest(tmp_path, mode=mode)
    found = splits(tmp_path)
    assert not (found["train"] & found["val"] | found["train"] & found["test"] | found["val"] & found["test"])
    assert set().union(*found.values()) == {f"Breast_MRI_{n:03d}" for n in range(400)}
    plain = {s: sum(int(p[-3:]) < 300 for p in members) / 300 for s, members in found.items()}
    assert plain == pytest.approx({"train": 0.75, "val": 0.10, "test": 0.15}, abs=0.02)
    masked = {s: sum(int(p[-3:]) >= 300 for p in members) for s, members in found.items()}
    expected = {"train": 75, "val": 0, "test": 25} if mode == "paper" else {"train": 65, "val": 10, "test": 25}
    assert masked == pytest.approx(expected, abs=2)
    assert report["segmenter_validated_on"] == ("test" if mode == "paper" else "val")
    for model, _, _ in MODELS:  # every split has its share of every scanner
        counts = report["categories"]["ManufacturerModelName"][model]
        total = sum(counts.values())
        assert counts["test"] / total == pytest.approx(0.175, abs=0.06)
    assert {line["split"] for line in read_lines(tmp_path) if line["excluded"]} == {None}


def test_rare_categories_are_forced_by_the_authors_and_reported_by_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.split._parts", lambda labels, *_: ["test"] * len(labels))
    for mode, where in (("paper", "train"), ("default", "test")):
        write_cohort(tmp_path / mode, count=60, masked=10)
        report = split_manifest(tmp_path / mode, mode=mode)
        assert report["rare"] == {"Breast_MRI_000": where, "Breast_MRI_001": where}
        assert report["patients"] == ({"train": 2, "test": 58} if mode == "paper" else {"test": 60})


def test_the_same_seed_gives_the_same_split_and_the_old_manifest_stays(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_cohort(tmp_path / name, count=60)
    before = (tmp_path / "a" / "manifest.jsonl").read_bytes()
    split_manifest(tmp_path / "a")
    split_manifest(tmp_path / "b", seed=PAPER_SEED)
    split_manifest(tmp_path / "c", seed=5)
    assert splits(tmp_path / "a") == splits(tmp_path / "b") != splits(tmp_path / "c")
    assert (tmp_path / "a" / UNSPLIT).read_bytes() == before
    report = json.loads((tmp_path / "a" / "split.json").read_text())
    assert report["manifest_sha256"] in (tmp_path / "a" / "manifest.sha256").read_text()


def test_a_split_that_is_there_is_kept_unless_it_is_asked_for_anew(tmp_path: Path) -> None:
    write_cohort(tmp_path, count=40)
    split_manifest(tmp_path, seed=1)
    first = splits(tmp_path)
    assert split_manifest(tmp_path, seed=2)["mode"] == "as given"
    assert splits(tmp_path) == first
    split_manifest(tmp_path, seed=2, redraw=True)
    assert splits(tmp_path) != first
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "index.json").write_text("{}")
    with pytest.raises(IngestError, match="old split"):
        split_manifest(tmp_path, seed=3, redraw=True)


def test_a_patient_in_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    write_cohort(tmp_path, count=4)
    lines = [line | {"split": "train"} for line in read_lines(tmp_path)]
    lines[-2]["split"] = "test"
    write_lines(tmp_path, lines)
    with pytest.raises(IngestError, match="Breast_MRI_003 is in two splits"):
        split_manifest(tmp_path)
    with pytest.raises(IngestError, match="two splits"):
        check_disjoint([LINE | {"patient_id": "x", "split": s} for s in ("train", None)], tmp_path)


def test_stratification_deals_out_the_rarest_category_first() -> None:
    """40 patients, ten with A, four with B besides, all others with none: each subset gets its share of each."""
    labels = np.zeros((40, 2), bool)
    labels[:10, 0], labels[6:10, 1] = True, True
    for seed in range(5):
        drawn = stratify(labels, (0.5, 0.25, 0.25), np.random.default_rng(seed))
        assert np.bincount(drawn).tolist() == [20, 10, 10]
        assert np.bincount(drawn[labels[:, 1]]).tolist() == [2, 1, 1]
        assert np.bincount(drawn[labels[:, 0]], minlength=3) == pytest.approx([5, 2.5, 2.5], abs=0.5)
    assert set(stratify(labels, (0.75, 0.0, 0.25), np.random.default_rng(0))) == {0, 2}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_very_small_cohorts_are_split_too(count: int, tmp_path: Path) -> None:
    write_cohort(tmp_path, count=count, masked=0, rare=0)
    split_manifest(tmp_path)
    assert sum(map(len, splits(tmp_path).values())) == count


def test_the_commands_say_what_they_did(tmp_path: Path) -> None:
    write_cohort(tmp_path, count=40)
    runner = CliRunner()
    result = runner.invoke(app, ["split", str(tmp_path)])
    assert result.exit_code == 0
    assert "train" in result.output
    assert "rare category" in result.output
    assert runner.invoke(app, ["split", str(tmp_path / "none")]).exit_code == 1
    result = runner.invoke(app, ["ingest", str(tmp_path / "none"), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "error:" in result.output
    assert "is no folder" in result.output

"""A bundle whose manifest and hashes are sound and whose weights are not: for all that never opens the weights."""

import json
from pathlib import Path

from reacquire.bundles.manifest import MANIFEST_NAME, Manifest, file_sha256

NETWORKS = ("editor", "predictor", "segmenter")


def hollow_bundle(root: Path, label: str = "hollow@0.0.1", *, folder: str | None = None, weights: str = "w") -> Path:
    """Write ``NAME@VERSION`` below ``root``; bundles with other ``weights`` have other hashes."""
    name, version = label.split("@")
    place = root / (folder or f"{name}-{version}")
    (place / "models").mkdir(parents=True)
    files = {f"models/{network}.safetensors": f"{weights} {network}" for network in NETWORKS}
    for path, text in files.items():
        (place / path).write_text(text, encoding="ascii")
    entry = {"preset": "none", "config": {}, "parameters": 1}
    manifest = Manifest.model_validate(
        {
            "format": "reacquire-bundle/2",
            "name": name,
            "version": version,
            "description": "no weights",
            "created": "2026-01-01",
            "licence": "Apache-2.0",
            "training_data": "none",
            "patient_data": False,
            "vocabulary": {"name": "duke-v1", "sha256": "0" * 64, "layout": "default"},
            "preprocessing": {"parameters": {}, "sha256": "0" * 64},
            "editing": {"method": "direct", "noise": False},
            "networks": {network: {**entry, "file": f"models/{network}.safetensors"} for network in NETWORKS},
            "metrics": {},
            "files": {path: file_sha256(place / path) for path in files},
        }
    )
    (place / MANIFEST_NAME).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1), encoding="utf-8")
    return place

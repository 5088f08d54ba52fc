"""Finished runs -> a bundle: weights in half precision, manifest with hashes, model card, licence."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from reacquire import __version__
from reacquire.bundles.manifest import MANIFEST_NAME, DiffusionSetup, Manifest, NetworkEntry, file_sha256
from reacquire.iap import load_vocabulary
from reacquire.iap.encoding import Layout
from reacquire.imaging import Preprocessing

SIMULATED = (
    "Trained on simulated women of the Reacquire phantom only; no patient data was seen, and nothing is claimed about "
    "real patients."
)


@dataclass(frozen=True)
class Card:
    """What people need to know about a bundle."""

    name: str
    version: str
    description: str
    created: str
    training_data: str = SIMULATED
    patient_data: bool = False
    licence: str = "Apache-2.0"


def pack_bundle(
    folder: Path,
    card: Card,
    runs: Mapping[str, Path],
    diffusion: DiffusionSetup,
    *,
    metrics: Mapping[str, Mapping[str, Any]],
    licence_file: Path,
) -> Manifest:
    """Write a bundle from one run folder each for ``denoiser``, ``predictor`` and ``segmenter``.

    Raises
    ------
    FileExistsError
        When the folder exists: a released bundle is never altered.
    """
    folder.mkdir(parents=True)
    for sub in ("configs", "models", "docs"):
        (folder / sub).mkdir()
    networks = {name: _add_network(folder, name, run) for name, run in runs.items()}
    layout: Layout = "paper" if diffusion.method == "sdedit" else "default"
    vocabulary, preprocessing = load_vocabulary(), Preprocessing()
    shutil.copyfile(licence_file, folder / "LICENSE")
    (folder / "docs" / "data_license.txt").write_text(card.training_data + "\n", encoding="utf-8")
    (folder / "docs" / "README.md").write_text(_model_card(card, metrics), encoding="utf-8")
    _write_json(folder / "configs" / "metadata.json", _monai_metadata(card))
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    manifest = Manifest.model_validate(
        {
            "format": "reacquire-bundle/1",
            **vars(card),
            "vocabulary": {"name": vocabulary.name, "sha256": vocabulary.sha256, "layout": layout},
            "preprocessing": {"parameters": preprocessing.to_dict(), "sha256": preprocessing.sha256},
            "diffusion": diffusion,
            "networks": networks,
            "metrics": metrics,
            "files": {p.relative_to(folder).as_posix(): file_sha256(p) for p in files},
        }
    )
    _write_json(folder / MANIFEST_NAME, manifest.model_dump())
    return manifest


def _add_network(folder: Path, name: str, run: Path) -> NetworkEntry:
    """Copy a run's weights in half precision; integer buffers stay as they are."""
    summary = json.loads((run / "network.json").read_text(encoding="utf-8"))
    tensors = load_file(run / "weights.safetensors")
    halved = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in tensors.items()}
    file = f"models/{name}.safetensors"
    save_file(halved, folder / file)
    return NetworkEntry(
        file=file, preset=summary["preset"], config=summary["network"], parameters=summary["parameters"]
    )


def _monai_metadata(card: Card) -> dict[str, Any]:
    """``configs/metadata.json`` of the MONAI bundle specification."""
    image = {"type": "image", "format": "magnitude", "modality": "MR", "num_channels": 1, "spatial_shape": [224, 224]}
    return {
        "version": card.version,
        "changelog": {card.version: card.description},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"reacquire": __version__},
        "task": "Counterfactual MR acquisition parameters, their prediction, and breast tissue segmentation",
        "description": card.description,
        "authors": "Reacquire",
        "copyright": "Reacquire contributors",
        "intended_use": "Research only; not for diagnosis.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": image}},
    }


def _model_card(card: Card, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"# {card.name} {card.version}", "", card.description, "", f"**{card.training_data}**", ""]
    lines += ["Research use only; not for diagnosis. Licence: " + card.licence + ".", ""]
    for group, figures in metrics.items():
        lines += [f"## {group}", "", "| figure | value |", "|---|---|"]
        lines += [f"| {k} | {f'{v:.4f}' if isinstance(v, float) else v} |" for k, v in figures.items()]
        lines.append("")
    return "\n".join(lines)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

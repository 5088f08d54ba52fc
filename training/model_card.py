"""The pages of a bundle for people and for MONAI: model card and ``configs/metadata.json``."""

from collections.abc import Mapping
from typing import Any

import monai
import numpy as np
import torch

from reacquire import __version__
from reacquire.engine import CLASSES
from reacquire.imaging import Preprocessing
from training.record import RunRecord

UNITS = {"mse_FlipAngle": "deg2", "mse_SliceThickness": "mm2", "mse_EchoTime": "ms2", "mse_RepetitionTime": "ms2"}


def model_card(
    title: str,
    description: str,
    training_data: str,
    licence: str,
    records: Mapping[str, RunRecord],
    metrics: Mapping[str, Mapping[str, Any]],
) -> str:
    """Markdown: what it is, what it saw, what was measured."""
    lines = [f"# {title}", "", description, "", f"**{training_data}**", ""]
    lines += [f"Research use only; not for diagnosis. Licence: {licence}.", "", "## Networks", ""]
    lines += [
        "| network | preset | parameters | steps | training cohort (sha256 of its manifest) | started from weights |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {n} | {r.preset} | {r.parameters:,} | {r.steps} | {r.cohort[:16]} | {(r.started_from or 'none')[:16]} |"
        for n, r in records.items()
    ]
    lines.append("")
    if not metrics:
        lines += ["**Nothing was measured** with them yet: `reacquire-train evaluate`, then `pack --metrics`.", ""]
    for group, figures in metrics.items():
        lines += [f"## Measured: {group}", "", "| figure | value |", "|---|---|"]
        lines += [f"| {_label(k)} | {f'{v:.4f}' if isinstance(v, float) else v} |" for k, v in figures.items()]
        lines.append("")
    return "\n".join(lines)


def _label(figure: str) -> str:
    return f"{figure} ({UNITS[figure]})" if figure in UNITS else figure


def monai_metadata(version: str, description: str, records: Mapping[str, RunRecord]) -> dict[str, Any]:
    """``configs/metadata.json`` of the MONAI bundle specification, one data format per network."""
    size = Preprocessing.from_dict(records["segmenter"].preprocessing).size
    return {
        "version": version,
        "changelog": {version: description},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"reacquire": __version__},
        "task": "Counterfactual MR acquisition parameters, their prediction, and breast tissue segmentation",
        "description": description,
        "authors": "Reacquire",
        "copyright": "Reacquire contributors",
        "intended_use": "Research only; not for diagnosis.",
        "network_data_format": _format(size, 1, {0: "image"}, {0: "background", 1: CLASSES[1], 2: CLASSES[2]}),
        "predictor_data_format": _format(size, 1, {0: "image"}, {0: "vector of the vocabulary"}),
        "editor_data_format": _format(size, 1, {0: "image"}, _answers(records["editor"])),
    }


def _answers(editor: RunRecord) -> Mapping[int, str]:
    if (editor.method or {}).get("method") == "direct":
        tissues = CLASSES[: editor.network.get("tissues", 0)]
        logits = {2 + number: f"logit of {tissue}" for number, tissue in enumerate(tissues)}
        return {0: "change of the image", 1: "standard deviation of its noise", **logits}
    return {0: "noise of the image"}


def _format(size: int, channels: int, inputs: Mapping[int, str], outputs: Mapping[int, str]) -> dict[str, Any]:
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "MR",
        "spatial_shape": [size, size],
        "dtype": "float32",
        "value_range": [],  # percentile-normalised, not clipped
        "is_patch_data": False,
    }
    shown = {str(k): v for k, v in inputs.items() if k < channels}
    result = {str(k): v for k, v in outputs.items()}
    return {
        "inputs": {"image": {**image, "num_channels": channels, "channel_def": shown}},
        "outputs": {"pred": {**image, "num_channels": len(result), "channel_def": result}},
    }

"""A bundle of small networks with random weights, packed by the project's own packing: real in all but skill."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from reacquire.bundles.manifest import file_sha256
from reacquire.iap import Categorical, Encoding, load_vocabulary
from reacquire.imaging import Preprocessing
from reacquire.networks import (
    DENOISERS,
    EDITORS,
    DenoiserConfig,
    DirectConfig,
    PredictorConfig,
    SegmenterConfig,
    ToneConfig,
    build_denoiser,
    build_editor,
    build_predictor,
    build_segmenter,
    build_tone,
    parameter_count,
)
from training.pack import DIRECT, PAPER, STRUCTURE, Card, pack_bundle
from training.record import RunRecord, write_record

LICENCE = Path(__file__).resolve().parents[1] / "LICENSE"
MODELS = ("editor", "predictor", "segmenter")
DIFFUSION = {"schedule": "paper_cosine", "timesteps": 1000}
METHODS = {
    "direct": {"method": "direct"},
    "sdedit": {"method": "sdedit", **DIFFUSION, "start": 49},
    "inversion": {"method": "inversion", **DIFFUSION, "start": 400},
    "structure": {"method": "structure", **DIFFUSION, "start": 999},
}
DEFAULTS = {
    "direct": DIRECT,
    "sdedit": {**PAPER, "steps": 2},
    "structure": {**STRUCTURE, "steps": 2},
    "inversion": {"steps": 2, "guidance_scale": 1.0},
}


def tiny_configs(method: str) -> dict:
    """Configurations of the networks, as small as their architecture goes."""
    width = sum(EDITORS["default"].parameter_widths if method == "direct" else DENOISERS["paper"].parameter_widths)
    return {
        "editor": _tiny_editor() if method == "direct" else _tiny_denoiser(method),
        "predictor": PredictorConfig(outputs=width, channels=(8, 8, 8, 8)),
        "segmenter": SegmenterConfig(channels=(4, 8, 16)),
        "tone": ToneConfig(EDITORS["default"].parameter_widths, width=8),
    }


def _tiny_denoiser(method: str) -> DenoiserConfig:
    shape = {"channels": (8, 8, 16), "attention_levels": (False, False, True), "head_channels": 8, "norm_groups": 4}
    return replace(DENOISERS["structure" if method == "structure" else "paper"], **shape, residual_blocks=1)


def _tiny_editor() -> DirectConfig:
    shape = {"channels": (8, 8), "blocks": (1, 1), "token_width": 4, "embedding_width": 16, "norm_groups": 4, "fold": 4}
    return replace(EDITORS["default"], **shape)


def _build(config) -> nn.Module:
    if isinstance(config, DenoiserConfig):
        return build_denoiser(config)
    if isinstance(config, DirectConfig):
        return build_editor(config)
    if isinstance(config, ToneConfig):
        return build_tone(config)
    return build_predictor(config) if isinstance(config, PredictorConfig) else build_segmenter(config)


def tiny_run(folder: Path, model: str, method: str = "direct", *, unseen: dict | None = None, **facts) -> Path:
    """A run folder with random weights and the record of a run that saw everything but ``unseen``."""
    config = tiny_configs(method)[model]
    encoding = Encoding(load_vocabulary(), "default" if method == "direct" else "paper")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _build(config)
        # The zero-initialised output would make every edit the identity, and weak linear layers would hardly see the
        # parameters that an edit is asked for.
        for weight in network.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.05 if weight.ndim > 2 else 0.15)
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "weights.safetensors")
    seen = {
        p.keyword: {str(c): 0 if c in (unseen or {}).get(p.keyword, ()) else 9 for c in p.categories}
        for p in encoding.parameters
        if isinstance(p, Categorical)
    }
    record = RunRecord(
        model=model,
        preset="tiny",
        seed=0,
        steps=0,
        network=config.to_dict(),
        parameters=parameter_count(network),
        vocabulary=encoding.vocabulary.sha256,
        layout=encoding.layout,
        # the many evaluations of a denoiser are of small slices, to save the tests' time
        preprocessing=Preprocessing(size=224 if method == "direct" else 64).to_dict(),
        cohort="0" * 64,
        synthetic=True,
        seen=seen,
        method=METHODS[method] if model == "editor" else None,
        scanners=[{"categories": {}, "ranges": {"FlipAngle": [8.0, 12.0]}}] if model == "editor" else [],
    )
    write_record(folder, replace(record, **facts))
    return folder


def pack_tiny(
    folder: Path,
    method: str = "direct",
    *,
    name: str = "tiny",
    version: str = "0.0.1",
    unseen: dict | None = None,
    tone: bool = False,
) -> Path:
    """Write runs and pack them; returns the bundle's folder."""
    runs = {model: tiny_run(folder / "runs" / model, model, method, unseen=unseen) for model in MODELS}
    if tone:  # fitted to the segmenter as it is packed, which takes a packing to know
        packed = pack_tiny(folder / "before", method, unseen=unseen)
        digest = file_sha256(packed / "models" / "segmenter.safetensors")
        runs["tone"] = tiny_run(folder / "runs" / "tone", "tone", segmenter=digest)
    card = Card(name, version, "random weights for tests", "2026-01-01")
    pack_bundle(folder / name, card, runs, DEFAULTS[method], metrics={}, licence_file=LICENCE)
    return folder / name

"""A bundle of small networks with random weights, packed by the project's own packing: real in all but skill."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from reacquire.iap import Categorical, Encoding, load_vocabulary
from reacquire.imaging import Preprocessing
from reacquire.networks import (
    DENOISERS,
    PredictorConfig,
    SegmenterConfig,
    build_denoiser,
    build_predictor,
    build_segmenter,
    parameter_count,
)
from training.pack import Card, Sampling, pack_bundle
from training.record import DiffusionRecord, RunRecord, write_record

LICENCE = Path(__file__).resolve().parents[1] / "LICENSE"
BUILDERS = {"denoiser": build_denoiser, "predictor": build_predictor, "segmenter": build_segmenter}
DIFFUSION = {
    "paired": DiffusionRecord("paired", "paper_cosine", 1000, 0.2, 600),
    "sdedit": DiffusionRecord("sdedit", "paper_cosine", 1000, None, 49),
}
SAMPLING = {"paired": Sampling("ddim", 2, 1.0), "sdedit": Sampling("ancestral", 2, 3.0)}


def tiny_configs(method: str) -> dict:
    """Configurations of the three networks, as small as their architecture goes."""
    preset = DENOISERS["default" if method == "paired" else "paper"]
    shape = {"channels": (8, 8, 16), "attention_levels": (False, False, True), "head_channels": 8, "norm_groups": 4}
    token = {"token_width": 8} if method == "paired" else {}
    return {
        "denoiser": replace(preset, **shape, **token, residual_blocks=1),
        "predictor": PredictorConfig(outputs=preset.condition_width, channels=(8, 8, 8, 8)),
        "segmenter": SegmenterConfig(channels=(4, 8, 16)),
    }


def tiny_run(folder: Path, model: str, method: str = "paired", *, unseen: dict | None = None, **facts) -> Path:
    """A run folder with random weights and the record of a run that saw everything but ``unseen``."""
    config = tiny_configs(method)[model]
    encoding = Encoding(load_vocabulary(), "default" if method == "paired" else "paper")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = BUILDERS[model](config)
        for weight in network.parameters():  # the zero-initialised output would make every edit the identity
            torch.nn.init.normal_(weight, std=0.05) if weight.ndim > 1 else None
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
        preprocessing=Preprocessing().to_dict(),
        cohort="0" * 64,
        synthetic=True,
        seen=seen,
        diffusion=DIFFUSION[method] if model == "denoiser" else None,
    )
    write_record(folder, replace(record, **facts))
    return folder


def pack_tiny(folder: Path, method: str = "paired", *, name: str = "tiny", unseen: dict | None = None) -> Path:
    """Write runs and pack them; returns the bundle's folder."""
    runs = {model: tiny_run(folder / "runs" / model, model, method, unseen=unseen) for model in BUILDERS}
    card = Card(name, "0.0.1", "random weights for tests", "2026-01-01")
    pack_bundle(folder / name, card, runs, SAMPLING[method], metrics={}, licence_file=LICENCE)
    return folder / name

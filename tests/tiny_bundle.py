"""A bundle of small networks with random weights, packed by the project's own packing: real in all but skill."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from reacquire.bundles.manifest import DiffusionSetup
from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks import (
    DENOISERS,
    DenoiserConfig,
    PredictorConfig,
    SegmenterConfig,
    build_denoiser,
    build_predictor,
    build_segmenter,
    parameter_count,
)
from training.pack import Card, pack_bundle

LICENCE = Path(__file__).resolve().parents[1] / "LICENSE"
ENCODING = Encoding(load_vocabulary())


def tiny_configs(method: str = "paired") -> dict:
    """Configurations of the three networks, as small as their architecture goes."""
    paired = method == "paired"
    preset = DENOISERS["default" if paired else "paper"].to_dict()
    shape = {"channels": (8, 8, 16), "attention_levels": (False, False, True), "head_channels": 8, "norm_groups": 4}
    token = {"token_width": 8} if paired else {}
    return {
        "denoiser": DenoiserConfig.from_dict({**preset, **shape, **token, "residual_blocks": 1}),
        "predictor": PredictorConfig(outputs=ENCODING.width, channels=(8, 8, 8, 8)),
        "segmenter": SegmenterConfig(channels=(4, 8, 16)),
    }


def pack_tiny(folder: Path, method: str = "paired", *, name: str = "tiny") -> Path:
    """Write runs and pack them; returns the bundle's folder."""
    builders = {"denoiser": build_denoiser, "predictor": build_predictor, "segmenter": build_segmenter}
    runs = {}
    for network_name, config in tiny_configs(method).items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = builders[network_name](config)
            for weight in network.parameters():  # the zero-initialised output would make every edit the identity
                torch.nn.init.normal_(weight, std=0.05) if weight.ndim > 1 else None
        runs[network_name] = run = folder / "runs" / network_name
        run.mkdir(parents=True)
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, run / "weights.safetensors")
        summary = {"preset": "tiny", "network": config.to_dict(), "parameters": parameter_count(network)}
        (run / "network.json").write_text(json.dumps(summary))
    setup = DiffusionSetup(
        method=method,
        schedule="paper_cosine",
        spread=0.2 if method == "paired" else None,
        sampler="ddim" if method == "paired" else "ancestral",
        start=600 if method == "paired" else 49,
        steps=2,
        guidance_scale=1.0 if method == "paired" else 3.0,
    )
    card = Card(name, "0.0.1", "random weights for tests", "2026-01-01")
    pack_bundle(folder / name, card, runs, setup, metrics={}, licence_file=LICENCE)
    return folder / name

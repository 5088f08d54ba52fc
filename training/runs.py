"""Puts the pieces of a training run together: cache and preset in, run folder with weights out.

A run folder holds config.json, losses.jsonl, the resumable checkpoint and, at its end, weights.safetensors with its
record beside it. It is written once and never altered.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reacquire.bundles.manifest import file_sha256
from reacquire.diffusion import NoiseSchedule
from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks import (
    DENOISERS,
    EDITORS,
    PREDICTORS,
    SEGMENTERS,
    build_denoiser,
    build_editor,
    build_predictor,
    build_segmenter,
    parameter_count,
)
from training.batches import Batch, Batches
from training.cache import Row, SliceCache, open_cache
from training.config import TrainConfig
from training.loop import Objective, Report, open_run, train
from training.objectives import (
    CLASS_WEIGHT_CAP,
    DirectEditing,
    PaperDenoising,
    Prediction,
    Segmentation,
    class_weights,
)
from training.record import RunRecord, count_scanners, count_seen, write_record

PAPER_START = 49  # the first index that the authors' loop denoises at (docs/paper.md row 3)
ITSELF = 0.1  # share of the editor's batch whose source is the target under its own parameters: nothing may change


def encoding_of(config: TrainConfig) -> Encoding:
    """The layout that a run's network takes."""
    return Encoding(load_vocabulary(), config.network)


def build_network(config: TrainConfig) -> tuple[nn.Module, dict[str, Any]]:
    """(fresh network with weights drawn from the run's seed, its configuration as a plain dict)."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        if config.model == "editor" and config.network == "paper":
            return build_denoiser(DENOISERS["paper"]), DENOISERS["paper"].to_dict()
        if config.model == "editor":
            return build_editor(EDITORS[config.network]), EDITORS[config.network].to_dict()
        if config.model == "predictor":
            return build_predictor(PREDICTORS[config.network]), PREDICTORS[config.network].to_dict()
        return build_segmenter(SEGMENTERS[config.network]), SEGMENTERS[config.network].to_dict()


def objective_of(config: TrainConfig, cache: SliceCache) -> Objective:
    """The loss of a run."""
    if config.model == "segmenter":
        return Segmentation()
    encoding = encoding_of(config)
    if config.model == "predictor":
        cap = CLASS_WEIGHT_CAP if config.network == "default" else None
        return Prediction(encoding, class_weights(cache.split("train"), encoding, cap=cap))
    if config.network == "paper":
        return PaperDenoising(NoiseSchedule.paper_cosine(), config.condition_dropout)
    return DirectEditing(config.condition_dropout)


def training_rows(config: TrainConfig, cache: SliceCache) -> tuple[Row, ...]:
    """The slices that a run learns from: all of the split, or for a segmenter those whose tissues are known."""
    return cache.split("train", masked=config.model == "segmenter")


def batches_of(config: TrainConfig, cache: SliceCache) -> list[Batches]:
    """One source of batches per phase."""
    paired = config.model == "editor" and config.network == "default"
    rows, encoding = training_rows(config, cache), encoding_of(config)
    return [
        Batches(
            cache,
            rows,
            encoding,
            phase.batch_size,
            config.seed,
            size=phase.size,
            paired=paired,
            itself=ITSELF if paired else 0.0,
            mirror=config.mirror,
        )
        for phase in config.phases
    ]


def run_training(
    cache_folder: Path, run: Path, config: TrainConfig, *, resume: bool, report: Report, init: Path | None = None
) -> Path:
    """Train one network, from the weights file ``init`` where one is given; returns the weights file.

    Raises
    ------
    FileExistsError, ValueError
        As ``open_run``.
    RuntimeError
        When ``init`` holds other tensors than the network.
    """
    cache = open_cache(cache_folder)
    config = config.sized(len(training_rows(config, cache)))
    open_run(run, config, resume=resume)
    network, network_config = build_network(config)
    if init is not None:
        network.load_state_dict(load_file(init))
    sources = batches_of(config, cache)

    def batch(phase: int, step: int) -> Batch:
        return sources[phase](step)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kept = train(network, objective_of(config, cache), batch, config, run, device=device, report=report)
    weights = run / "weights.safetensors"
    save_file({k: v.detach().cpu().contiguous() for k, v in kept.state_dict().items()}, weights)
    started_from = None if init is None else file_sha256(init)
    write_record(run, _record(config, cache, network_config, parameter_count(kept), started_from))
    return weights


def _record(
    config: TrainConfig, cache: SliceCache, network: dict[str, Any], parameters: int, started_from: str | None
) -> RunRecord:
    encoding = encoding_of(config)
    return RunRecord(
        model=config.model,
        preset=config.preset,
        seed=config.seed,
        steps=config.steps,
        network=network,
        parameters=parameters,
        vocabulary=encoding.vocabulary.sha256,
        layout=encoding.layout,
        preprocessing=cache.preprocessing,
        cohort=cache.cohort,
        synthetic=cache.synthetic,
        seen=count_seen(cache, encoding),
        method=_method(config) if config.model == "editor" else None,
        started_from=started_from,
        scanners=count_scanners(cache, encoding) if config.model == "editor" else [],
    )


def _method(config: TrainConfig) -> dict[str, Any]:
    if config.network != "paper":
        return {"method": "direct"}
    schedule = NoiseSchedule.paper_cosine()
    return {
        "method": "sdedit",
        "schedule": schedule.name,
        "timesteps": schedule.timesteps,
        "start": PAPER_START,
    }


def with_overrides(config: TrainConfig, *, seed: int, steps: int | None) -> TrainConfig:
    """The preset with another seed, or cut to ``steps`` per phase."""
    config = replace(config, seed=seed)
    if steps is None:
        return config
    phases = tuple(replace(phase, steps=min(steps, phase.steps) or steps) for phase in config.phases)
    return replace(config, epochs=None, phases=phases)

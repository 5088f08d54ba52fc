"""Puts the pieces of a training run together: cache and preset in, run folder with weights out.

A run folder holds config.json, losses.jsonl, the resumable checkpoint and, at its end, weights.safetensors with its
record beside it. It is written once and never altered.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from reacquire.diffusion import NoiseSchedule, SourceResidual
from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks import (
    DENOISERS,
    PREDICTORS,
    SEGMENTERS,
    build_denoiser,
    build_predictor,
    build_segmenter,
    parameter_count,
)
from training.batches import Batch, Batches
from training.cache import SliceCache, open_cache
from training.config import TrainConfig
from training.loop import Objective, Report, open_run, train
from training.objectives import (
    CLASS_WEIGHT_CAP,
    PairedDenoising,
    PaperDenoising,
    Prediction,
    Segmentation,
    class_weights,
)
from training.record import DiffusionRecord, RunRecord, count_seen, write_record

SPREAD = 0.2  # sd of target - source inside the breast, normalised units, over pairs of the training split
PAPER_START = 49  # the first index that the authors' loop denoises at (docs/paper.md row 3)
START = 600  # sigma = 1.4 alpha: x_t then has a fiftieth of the say that the source has (SourceResidual)


def encoding_of(config: TrainConfig) -> Encoding:
    """The layout that a run's network takes."""
    return Encoding(load_vocabulary(), config.network)


def build_network(config: TrainConfig) -> tuple[nn.Module, dict[str, Any]]:
    """(fresh network with weights drawn from the run's seed, its configuration as a plain dict)."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        if config.model == "denoiser":
            return build_denoiser(DENOISERS[config.network]), DENOISERS[config.network].to_dict()
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
    return PairedDenoising(NoiseSchedule.paper_cosine(), SourceResidual(SPREAD), START, config.condition_dropout)


def batches_of(config: TrainConfig, cache: SliceCache) -> list[Batches]:
    """One source of batches per phase."""
    paired = config.model == "denoiser" and config.network == "default"
    rows, encoding = cache.split("train"), encoding_of(config)
    return [
        Batches(
            cache, rows, encoding, phase.batch_size, config.seed, size=phase.size, paired=paired, mirror=config.mirror
        )
        for phase in config.phases
    ]


def run_training(cache_folder: Path, run: Path, config: TrainConfig, *, resume: bool, report: Report) -> Path:
    """Train one network; returns the weights file.

    Raises
    ------
    FileExistsError, ValueError
        As ``open_run``.
    """
    cache = open_cache(cache_folder)
    config = config.sized(len(cache.split("train")))
    open_run(run, config, resume=resume)
    network, network_config = build_network(config)
    sources = batches_of(config, cache)

    def batch(phase: int, step: int) -> Batch:
        return sources[phase](step)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kept = train(network, objective_of(config, cache), batch, config, run, device=device, report=report)
    weights = run / "weights.safetensors"
    save_file({k: v.detach().cpu().contiguous() for k, v in kept.state_dict().items()}, weights)
    write_record(run, _record(config, cache, network_config, parameter_count(kept)))
    return weights


def _record(config: TrainConfig, cache: SliceCache, network: dict[str, Any], parameters: int) -> RunRecord:
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
        diffusion=_diffusion(config) if config.model == "denoiser" else None,
    )


def _diffusion(config: TrainConfig) -> DiffusionRecord:
    schedule = NoiseSchedule.paper_cosine()
    if config.network == "paper":
        return DiffusionRecord("sdedit", schedule.name, schedule.timesteps, None, PAPER_START)
    return DiffusionRecord("paired", schedule.name, schedule.timesteps, SPREAD, START)


def with_overrides(config: TrainConfig, *, seed: int, steps: int | None) -> TrainConfig:
    """The preset with another seed, or cut to ``steps`` per phase."""
    config = replace(config, seed=seed)
    if steps is None:
        return config
    phases = tuple(replace(phase, steps=min(steps, phase.steps) or steps) for phase in config.phases)
    return replace(config, epochs=None, phases=phases)

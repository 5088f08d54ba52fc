"""Puts the pieces of a training run together: cache and preset in, run folder with weights out.

A run folder holds config.json, losses.jsonl, the resumable checkpoint and, at its end, weights.safetensors with its
record beside it. It is written once and never altered.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file
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
from training.checkpoint import State, write_tensors
from training.config import PrecisionName, TrainConfig, TrainError, to_json
from training.hardware import launch, placed
from training.loop import Report, Task, train
from training.objectives import (
    CLASS_WEIGHT_CAP,
    DirectEditing,
    PaperDenoising,
    Prediction,
    Segmentation,
    class_weights,
)
from training.record import RunRecord, count_scanners, count_seen, write_record
from training.structure import StructureDenoising
from training.tracking import TrackerName
from training.validation import Objective, Validation, validation_rows

PAPER_START = 49  # the first index that the authors' loop denoises at (docs/paper.md row 3)
ITSELF = 0.1  # share of the editor's batch whose source is the target under its own parameters: nothing may change
ADDED = ("tissue_", "signal.")  # parts that weights of before may lack: fresh ones change nothing
VALIDATION_BATCH = 32  # slices at once; the mean does not depend on it


def encoding_of(config: TrainConfig) -> Encoding:
    """The layout that a run's network takes."""
    return Encoding(load_vocabulary(), "default" if config.network == "default" else "paper")


def build_network(config: TrainConfig) -> tuple[nn.Module, dict[str, Any]]:
    """(fresh network with weights drawn from the run's seed, its configuration as a plain dict)."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        if config.model == "editor" and config.network in DENOISERS:
            return build_denoiser(DENOISERS[config.network]), DENOISERS[config.network].to_dict()
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
    if _shows_the_slice(config):
        return StructureDenoising(NoiseSchedule.paper_cosine(), config.condition_dropout)
    if config.network in DENOISERS:
        return PaperDenoising(NoiseSchedule.paper_cosine(), config.condition_dropout, config.used_levels)
    return DirectEditing(config.condition_dropout)


def training_rows(config: TrainConfig, cache: SliceCache) -> tuple[Row, ...]:
    """The slices that a run learns from: all of the split, or for a segmenter those whose tissues are known."""
    return cache.split("train", masked=config.model == "segmenter")


def _source_of_batches(config: TrainConfig, cache: SliceCache, rows: tuple[Row, ...], batch_size: int) -> Batches:
    """Batches of some slices with what the run's loss needs, unmirrored."""
    direct = config.learns_from_pairs
    return Batches(
        cache,
        rows,
        encoding_of(config),
        batch_size,
        config.seed,
        paired=direct,
        mirror=False,
        labels=direct or config.model == "segmenter",
        truth=direct,
    )


def batches_of(config: TrainConfig, cache: SliceCache) -> list[Batches]:
    """One source of batches per phase.

    Raises
    ------
    TrainError
        When the run learns from pairs and no two slices are one, or there are fewer slices than a batch takes.
    """
    rows = training_rows(config, cache)
    if config.learns_from_pairs and max(Counter(row.pair_group for row in rows).values(), default=1) < 2:
        raise TrainError(
            f"preset {config.preset} of the editor learns from pairs, one slice under two protocols, and the cohort "
            "has none to train on; take preset structure or paper, which need none, or a simulated cohort "
            "(reacquire-train cohort) of two protocols or more"
        )
    sources = [_source_of_batches(config, cache, rows, phase.batch_size) for phase in config.phases]
    return [
        replace(source, size=phase.size, itself=ITSELF if source.paired else 0.0, mirror=config.mirror)
        for source, phase in zip(sources, config.phases, strict=True)
    ]


def validation_of(config: TrainConfig, cache: SliceCache, objective: Objective) -> Validation | None:
    """How the run is validated; None where its preset does not ask, or the cohort has no slices for it."""
    rows = validation_rows(config, cache)
    if not rows:
        return None
    return Validation(_source_of_batches(config, cache, rows, min(VALIDATION_BATCH, len(rows))), objective)


def run_training(
    cache_folder: Path,
    run: Path,
    config: TrainConfig,
    *,
    resume: bool,
    report: Report,
    init: Path | None = None,
    fabric: Fabric | None = None,
    trackers: tuple[TrackerName, ...] = (),
) -> Path:
    """Train one network, from the weights file ``init`` where one is given; returns the weights file.

    Without a launched ``fabric`` it trains on the GPU where there is one, in a precision that the device does well.

    Raises
    ------
    FileExistsError, TrainError
        As ``open_run`` and ``batches_of``, and when ``init`` holds other tensors than the network.
    IngestError, OSError
        When a file can't be written; what was finished is kept.
    ImportError
        When a tracker's extra is not installed.
    """
    if fabric is None:
        config = placed(config)
        fabric = launch(config.precision)
    cache = open_cache(cache_folder)
    config = config.sized(len(training_rows(config, cache)))
    sources, objective = batches_of(config, cache), objective_of(config, cache)

    def batch(phase: int, step: int, part: int, parts: int) -> Batch:
        return sources[phase](step, part, parts)

    task = Task(batch, objective, validation_of(config, cache, objective))
    network, network_config = build_network(config)
    if init is not None:
        _load(init, network, config)
    with fabric.rank_zero_first():
        open_run(run, config, resume=resume or not fabric.is_global_zero)
    state = train(network, task, config, run, fabric, report=report, trackers=trackers)
    weights = run / "weights.safetensors"
    if fabric.is_global_zero:
        write_tensors(weights, state.kept.state_dict())
        started_from = None if init is None else file_sha256(init)
        write_record(run, _record(config, cache, network_config, state, started_from))
    fabric.barrier()
    return weights


def _load(init: Path, network: nn.Module, config: TrainConfig) -> None:
    """Weights of the same network, or of one of before that lacks the parts ``ADDED``."""
    wrong = TrainError(
        f"{init} holds the tensors of another network; give weights.safetensors of a {config.model} of preset "
        f"{config.preset}, or one of the same network, or leave out --init"
    )
    try:
        absent, unknown = network.load_state_dict(load_file(init), strict=False)
    except RuntimeError as error:  # of other shapes; PyTorch's text lists every tensor
        raise wrong from error
    except (SafetensorError, OSError) as error:
        raise TrainError(
            f"{init} can't be read as weights ({error}); give another file, or leave out --init"
        ) from error
    if unknown or not all(name.startswith(ADDED) for name in absent):
        raise wrong


def open_run(folder: Path, config: TrainConfig, *, resume: bool) -> None:
    """Create a run folder, or check that the one to resume belongs to the same run.

    Raises
    ------
    FileExistsError
        When the folder exists and ``resume`` is false: runs are never overwritten.
    TrainError
        When the run to resume was started with another configuration.
    """
    record = folder / "config.json"
    if record.exists():
        if not resume:
            raise FileExistsError(f"{folder} holds a run already; resume it or name another folder")
        old, new = json.loads(record.read_text(encoding="utf-8")), json.loads(json.dumps(to_json(config)))
        if old != new:
            names = ", ".join(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))
            raise TrainError(
                f"{folder} was started with another configuration ({names}); give the options that config.json there "
                "names, or another folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = record.with_name("config.json.part")
    part.write_text(json.dumps(to_json(config), indent=1) + "\n", encoding="utf-8")
    part.replace(record)


def _record(
    config: TrainConfig, cache: SliceCache, network: dict[str, Any], state: State, started_from: str | None
) -> RunRecord:
    encoding = encoding_of(config)
    standing = state.standing
    return RunRecord(
        model=config.model,
        preset=config.preset,
        seed=config.seed,
        steps=standing.step if state.best else state.step,
        network=network,
        parameters=parameter_count(state.kept),
        vocabulary=encoding.vocabulary.sha256,
        layout=encoding.layout,
        preprocessing=cache.preprocessing,
        cohort=cache.cohort,
        synthetic=cache.synthetic,
        seen=count_seen(cache, encoding),
        method=_method(config) if config.model == "editor" else None,
        started_from=started_from,
        scanners=count_scanners(cache, encoding) if config.model == "editor" else [],
        precision=config.precision,
        validation={"loss": standing.loss, "step": standing.step} if standing.step else None,
    )


def _shows_the_slice(config: TrainConfig) -> bool:
    """Whether the network is a denoiser that is shown the slice beside the noise."""
    return config.network in DENOISERS and DENOISERS[config.network].in_channels == 2


def _method(config: TrainConfig) -> dict[str, Any]:
    if config.network not in DENOISERS:
        return {"method": "direct"}
    schedule = NoiseSchedule.paper_cosine()
    structure = _shows_the_slice(config)
    return {
        "method": "structure" if structure else "sdedit",
        "schedule": schedule.name,
        "timesteps": schedule.timesteps,
        "start": schedule.timesteps - 1 if structure else PAPER_START,
    }


def with_overrides(
    config: TrainConfig,
    *,
    seed: int,
    steps: int | None = None,
    precision: PrecisionName | None = None,
    accumulate: int = 1,
    compiler: str | None = None,
) -> TrainConfig:
    """The preset with another seed, cut to ``steps`` per phase, or computed in another way."""
    config = replace(
        config, seed=seed, accumulate=accumulate, compiler=compiler, precision=precision or config.precision
    )
    if steps is None:
        return config
    phases = tuple(replace(phase, steps=min(steps, phase.steps) or steps) for phase in config.phases)
    every = config.validate_every and steps if config.epochs else config.validate_every
    return replace(config, epochs=None, phases=phases, validate_every=every)

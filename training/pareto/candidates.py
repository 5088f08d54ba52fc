"""What competes: a network of a finished run, a way of editing with it, and its settings, each under a short name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from reacquire.bundles.manifest import (
    MANIFEST_NAME,
    DirectSetup,
    EditorSetup,
    InversionSetup,
    SdeditSetup,
    StructureSetup,
)
from reacquire.engine import Editor, Predictor, Segmenter, load_pipeline
from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks import (
    DenoiserConfig,
    DirectConfig,
    PredictorConfig,
    SegmenterConfig,
    build_denoiser,
    build_editor,
    build_predictor,
    build_segmenter,
)
from training.record import RunRecord, read_record

DIFFUSION = {"schedule": "paper_cosine", "timesteps": 1000}


@dataclass(frozen=True)
class Candidate:
    """``editor`` with the settings that its setup makes its own; ``family`` groups candidates in the figure."""

    name: str
    family: str
    editor: Editor

    @property
    def random(self) -> bool:
        """Whether the result depends on the seed."""
        setup = self.editor.setup
        return setup.noise if isinstance(setup, DirectSetup) else True


def denoiser_setups() -> Mapping[str, tuple[str, EditorSetup]]:
    """By name (family, setup): the paper's method, every other way with its network that is left (decision 0014)."""
    setups: dict[str, tuple[str, EditorSetup]] = {"paper, w=3": ("paper", _sdedit("ancestral", 50, 3.0))}
    for sampler, steps, scale in (("ddim", 1, 3.0), ("ddim", 8, 3.0), ("dpmpp-2m", 6, 3.0), ("dpmpp-2m", 6, 5.2)):
        setups[f"{sampler}, {_counted(steps)}, w={scale:g}"] = ("few steps", _sdedit(sampler, steps, scale))
    for start, steps, scale in (
        (49, 8, 3.0),
        (400, 8, 1.0),
        (400, 8, 3.0),
        (700, 8, 1.0),
        (950, 8, 1.0),
        (950, 20, 1.0),
    ):
        setup = _inversion(start, steps, scale)
        setups[f"edit-friendly to {start}, {_counted(steps)}, w={scale:g}"] = ("edit-friendly", setup)
    return setups


def _counted(steps: int) -> str:
    return f"{steps} step{'' if steps == 1 else 's'}"


def _sdedit(sampler: str, steps: int, scale: float) -> SdeditSetup:
    own = {"sampler": sampler, "steps": steps, "guidance_scale": scale, "start": 49}
    return SdeditSetup.model_validate({"method": "sdedit", **DIFFUSION, **own})


def _inversion(start: int, steps: int, scale: float) -> InversionSetup:
    own = {"start": start, "steps": steps, "guidance_scale": scale}
    return InversionSetup.model_validate({"method": "inversion", **DIFFUSION, **own})


def structure_setups() -> Mapping[str, tuple[str, EditorSetup]]:
    """As ``denoiser_setups``, of a network that is shown the slice beside the noise."""
    setups: dict[str, tuple[str, EditorSetup]] = {}
    for steps, scale in ((1, 1.0), (1, 2.0), (4, 1.0)):
        own = {"sampler": "ddim", "start": 999, "steps": steps, "guidance_scale": scale}
        setup = StructureSetup.model_validate({"method": "structure", **DIFFUSION, **own})
        setups[f"structure, {_counted(steps)}, w={scale:g}"] = ("structure", setup)
    return setups


def candidates_of_denoiser(name: str, run: Path) -> list[Candidate]:
    """Every way of editing with the denoiser of a run; ``name``, which may be empty, is added to theirs."""
    record, network = load_network(run)
    encoding, shown = _encoding(record), (record.method or {}).get("method") == "structure"
    setups = structure_setups() if shown else denoiser_setups()
    return [
        Candidate(f"{way}, {name}" if name else way, family, Editor(network, encoding, setup))
        for way, (family, setup) in setups.items()
    ]


def candidates_of_direct(name: str, folder: Path) -> list[Candidate]:
    """A direct editor with and without the target's noise, of a run or of a bundle with what follows its editor."""
    name = name or "direct"
    if (folder / MANIFEST_NAME).exists():
        editor = load_pipeline(folder).editor
    else:
        record, network = load_network(folder)
        editor = Editor(network, _encoding(record), DirectSetup(method="direct", noise=True))
    setups = {True: "", False: ", without noise"}
    return [
        Candidate(f"{name}{words}", "direct", replace(editor, setup=DirectSetup(method="direct", noise=noise)))
        for noise, words in setups.items()
    ]


def load_judges(predictor: Path, segmenter: Path) -> tuple[Predictor, Segmenter]:
    """The judges of two runs."""
    record, network = load_network(predictor)
    return Predictor(network, _encoding(record)), Segmenter(load_network(segmenter)[1])


def load_network(run: Path) -> tuple[RunRecord, nn.Module]:
    """(record, network in evaluation mode) of a finished run."""
    record = read_record(run)
    network = _build(record)
    network.load_state_dict(load_file(run / "weights.safetensors"))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks it
    return record, network.eval().requires_grad_(False)


def _build(record: RunRecord) -> nn.Module:
    config = json.loads(json.dumps(record.network))
    if record.model == "predictor":
        return build_predictor(PredictorConfig.from_dict(config))
    if record.model == "segmenter":
        return build_segmenter(SegmenterConfig.from_dict(config))
    if (record.method or {}).get("method") == "direct":
        return build_editor(DirectConfig.from_dict(config))
    return build_denoiser(DenoiserConfig.from_dict(config))


def _encoding(record: RunRecord) -> Encoding:
    return Encoding(load_vocabulary(), "paper" if record.layout == "paper" else "default")

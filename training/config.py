"""What a training run is: one frozen record, its presets, and its JSON beside the weights.

``paper`` repeats section 3.1 of the paper (its "Adam" builds AdamW in the authors' code, so AdamW it is);
``paper-two-core`` is that in small, for slices of 64 pixels (docs/reports/paper-method.md); ``structure``
is an editor that needs no pairs either (decision 0014), ``structure-two-core`` that in small; ``default`` is ours
(docs/reports/phantom-v1.md says how the shipped weights were made); ``two-core`` is the same with fewer steps, for two
cores and sixty women; ``smoke`` ends in minutes, to try the commands out.
"""

from dataclasses import asdict, dataclass, replace
from math import cos, pi
from typing import Any, Literal

ModelName = Literal["predictor", "editor", "segmenter"]
PresetName = Literal["paper", "paper-two-core", "structure", "structure-two-core", "default", "two-core", "smoke"]
NetworkName = Literal["paper", "paper-small", "structure", "structure-small", "default"]
PrecisionName = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Phase:
    """``steps`` optimiser steps at a learning rate that falls to ``final`` of it, on slices shrunk to ``size`` pixels
    (None: as they are)."""

    steps: int
    batch_size: int
    learning_rate: float
    size: int | None = None
    final: float = 1.0


class TrainError(ValueError):
    """A run can't start or go on; the message names the file or option and the remedy."""


@dataclass(frozen=True)
class TrainConfig:
    """A run; ``epochs`` (with one phase) overrides the phase's steps once the cohort's size is known.

    ``clip`` bounds the norm of the gradient, ``mirror`` flips slices left-right at random; the paper does neither.
    ``precision`` is Fabric's name; the mixed ones form products in 16 bits while weights, sums and losses stay in 32.
    Each batch is computed in ``accumulate`` parts by each process. Every ``validate_every`` steps (each epoch of a run
    that is counted in epochs) the loss of at most ``validation_slices`` is taken; with ``patience`` the run ends when
    so many such losses in a row were no better than the best, and keeps the weights of the best. ``compiler`` is a
    backend of ``torch.compile`` ("inductor"). ``used_levels`` is the share of a denoiser's timesteps that are drawn
    from those that an edit runs through; the paper's are uniform (0).
    """

    model: ModelName
    preset: PresetName
    network: NetworkName
    phases: tuple[Phase, ...]
    epochs: int | None = None
    weight_decay: float = 0.0
    condition_dropout: float = 0.0
    ema: float | None = None
    clip: float | None = 1.0
    mirror: bool = True
    precision: PrecisionName = "32-true"
    accumulate: int = 1
    validate_every: int | None = None
    validation_slices: int | None = None
    patience: int | None = None
    compiler: str | None = None
    used_levels: float = 0.0
    seed: int = 0
    checkpoint_every: int = 200

    def sized(self, slices: int) -> "TrainConfig":
        """The same run with its epochs turned into steps for a training split of ``slices``."""
        if self.epochs is None:
            return self
        (phase,) = self.phases
        epoch = slices // phase.batch_size
        return replace(
            self,
            epochs=None,
            phases=(replace(phase, steps=self.epochs * epoch),),
            validate_every=self.validate_every and epoch,
        )

    @property
    def learns_from_pairs(self) -> bool:
        """Whether the loss asks for one slice under two protocols; where source is target the identity has no loss."""
        return self.model == "editor" and self.network == "default"

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> tuple[int, Phase, float]:
        """(number of the phase, the phase, learning rate) of a step; the rate falls along half a cosine."""
        for number, phase in enumerate(self.phases):
            if step < phase.steps:
                fall = (1 + cos(pi * step / phase.steps)) / 2
                return number, phase, phase.learning_rate * (phase.final + (1 - phase.final) * fall)
            step -= phase.steps
        raise IndexError("the run has no such step")


def to_json(config: TrainConfig) -> dict:
    return asdict(config)


def from_json(data: dict) -> TrainConfig:
    """Inverse of ``to_json``; unknown keys raise TypeError."""
    return TrainConfig(**{**data, "phases": tuple(Phase(**phase) for phase in data["phases"])})


_WHOLE = 0  # steps come from epochs
_EPOCH = 1  # likewise
_PAPER: dict[str, Any] = {"clip": None, "mirror": False, "precision": "16-mixed"}
_OURS: dict[str, Any] = {"precision": "bf16-mixed", "ema": 0.995, "validate_every": 250, "validation_slices": 256}
PRESETS: dict[tuple[ModelName, PresetName], TrainConfig] = {
    (c.model, c.preset): c
    for c in (
        # paper, 3.1.1: batch 512, 200 epochs, 1e-5, weight decay 1e-4; cross-entropy by class weights + MSE (eq. 2)
        TrainConfig(
            "predictor", "paper", "paper", (Phase(_WHOLE, 512, 1e-5),), epochs=200, weight_decay=1e-4, **_PAPER
        ),
        # paper, 2.2: batch 32, 15 epochs, 1e-4, weight decay 1e-3, conditional dropout 15 % of the whole condition
        TrainConfig(
            "editor",
            "paper",
            "paper",
            (Phase(_WHOLE, 32, 1e-4),),
            epochs=15,
            weight_decay=1e-3,
            condition_dropout=0.15,
            **_PAPER,
        ),
        # a few thousand slices and minutes of CPU: a higher rate, averaged weights, and mostly the levels in use
        TrainConfig(
            "editor",
            "paper-two-core",
            "paper-small",
            (Phase(4000, 8, 1e-3),),
            weight_decay=1e-3,
            condition_dropout=0.15,
            ema=0.998,
            used_levels=0.8,
        ),
        # the paper's batch and epochs at a higher, falling rate; nobody has run it yet, as it takes a GPU
        TrainConfig(
            "editor",
            "structure",
            "structure",
            (Phase(_WHOLE, 32, 5e-4, None, 0.02),),
            epochs=15,
            weight_decay=1e-3,
            condition_dropout=0.15,
            **_OURS,
        ),
        TrainConfig(
            "editor",
            "structure-two-core",
            "structure-small",
            (Phase(2000, 8, 1e-3, None, 0.02),),
            weight_decay=1e-3,
            condition_dropout=0.15,
            ema=0.998,
        ),
        # judges to pack with either small editor: the paper's networks in batches that a hundred slices fill
        TrainConfig(
            "predictor", "paper-two-core", "paper", (Phase(800, 16, 5e-4, None, 0.02),), weight_decay=1e-4, ema=0.98
        ),
        TrainConfig(
            "segmenter", "paper-two-core", "paper", (Phase(300, 16, 1e-3, None, 0.02),), weight_decay=1e-3, ema=0.98
        ),
        # paper, 3.1.2: batch 256, 2e-3, weight decay 1e-3, early stopping; the authors' code waits for 25 epochs. Ours:
        # at most 100 epochs, and the best weights are restored, which their code forgets (docs/paper.md row 20)
        TrainConfig(
            "segmenter",
            "paper",
            "paper",
            (Phase(_WHOLE, 256, 2e-3),),
            epochs=100,
            weight_decay=1e-3,
            validate_every=_EPOCH,
            patience=25,
            **_PAPER,
        ),
        TrainConfig(
            "predictor", "default", "default", (Phase(1500, 32, 2e-3, None, 0.01),), weight_decay=1e-3, **_OURS
        ),
        TrainConfig(
            "editor",
            "default",
            "default",
            (Phase(6000, 16, 1.5e-3, 112, 0.3), Phase(2500, 8, 6e-4, None, 0.02)),
            weight_decay=1e-4,
            condition_dropout=0.1,
            **_OURS,
        ),
        TrainConfig("segmenter", "default", "default", (Phase(800, 16, 2e-3, None, 0.02),), weight_decay=1e-3, **_OURS),
        TrainConfig(
            "predictor",
            "two-core",
            "default",
            (Phase(500, 16, 2e-3, 112, 0.3), Phase(80, 16, 6e-4, None, 0.02)),
            weight_decay=1e-3,
            ema=0.98,
        ),
        TrainConfig(
            "editor",
            "two-core",
            "default",
            (Phase(600, 16, 1.5e-3, 112, 0.3), Phase(100, 8, 6e-4, None, 0.02)),
            weight_decay=1e-4,
            condition_dropout=0.1,
            ema=0.98,
        ),
        TrainConfig(
            "segmenter",
            "two-core",
            "default",
            (Phase(300, 16, 2e-3, 112, 0.3), Phase(80, 8, 1e-3, None, 0.02)),
            weight_decay=1e-3,
            ema=0.98,
        ),
        TrainConfig("predictor", "smoke", "default", (Phase(60, 16, 1e-3, 112),), ema=0.9),
        TrainConfig("editor", "smoke", "default", (Phase(60, 8, 1e-3, 64),), condition_dropout=0.1, ema=0.9),
        TrainConfig("segmenter", "smoke", "default", (Phase(60, 16, 2e-3, 112),), ema=0.9),
    )
}

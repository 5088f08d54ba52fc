"""A training state as one safetensors file, written atomically: a run killed at any instant resumes at its last one."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from training.validation import Standing

NAME = "checkpoint.safetensors"


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@dataclass
class State:
    """All that changes while a run goes on.

    Attributes
    ----------
    ema : the averaged model, None where the run has none
    precision : Fabric's, which owns the scale of 16-bit gradients
    best : weights of the best validation loss so far, of a run that ends by it
    """

    model: nn.Module
    ema: AveragedModel | None
    optimizer: Optimizer
    precision: Stateful
    step: int = 0
    standing: Standing = field(default_factory=Standing)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def kept(self) -> nn.Module:
        """The network that the run is for: the average where there is one."""
        return self.model if self.ema is None else self.ema.module


def save_checkpoint(folder: Path, state: State) -> None:
    """Write a state; the one before stands until the new one is whole.

    Raises
    ------
    OSError
        When it can't be written, as on a full disk.
    """
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    if state.ema is not None:
        tensors |= {f"ema.{k}": v for k, v in state.ema.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    tensors |= {f"best.{k}": v for k, v in state.best.items()}
    facts = {"step": state.step, "standing": asdict(state.standing), "precision": state.precision.state_dict()}
    write_tensors(folder / NAME, tensors, {key: json.dumps(value) for key, value in facts.items()})


def load_checkpoint(folder: Path, state: State) -> None:
    """Restore a state in place; without a checkpoint it stays as it is."""
    path = folder / NAME
    if not path.exists():
        return
    with safe_open(path, framework="pt") as stored:
        facts = {key: json.loads(value) for key, value in stored.metadata().items()}
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a dict)
    state.model.load_state_dict(_under("model.", tensors))
    if state.ema is not None:
        state.ema.load_state_dict(_under("ema.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("optimizer.", tensors).items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    optimizer = state.optimizer
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    if facts.get("precision"):
        state.precision.load_state_dict(facts["precision"])
    state.step = facts["step"]
    state.standing = Standing(**facts["standing"])
    state.best = _under("best.", tensors)


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole or not at all.

    Raises
    ------
    OSError
        Naming file and remedy; what was at ``path`` is still there.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        # clone: safetensors refuses tensors that share memory
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, part, facts)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f"{path} can't be written ({error}); all steps up to the last checkpoint are kept: "
            "free some space, then run the same command with --resume"
        ) from error


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
